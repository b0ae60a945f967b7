"""What there is of a stream, by its seal or its commit log, and whether the data agrees (S3, M22). Only reads."""

from __future__ import annotations

import zlib

from llm_datagen.errors import StreamChangedError, StreamCorruptError, StreamExistsError
from llm_datagen.streams.commit_log import read_log
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.position import STATE, Position
from llm_datagen.streams.storage.base import Storage

_CHECK_BYTES = 1 << 20

CHECK_WHOLE_BYTES = 64 * 1024 * 1024
"""Streams up to this size are checked from their first byte when they are opened; of longer ones, the last flush."""


def position_of(stream: StreamFiles) -> tuple[str, Position] | None:
    """Return the source and the position of a stream, from its seal or its commit log; None when there is neither."""
    seal = stream.read_seal()
    if seal is not None and seal.rows is not None:
        return seal.source, seal.position()
    return read_log(stream.storage, stream.commits_path)


def last_position(stream: StreamFiles) -> Position:
    """Return how far a stream was written, by its seal or its commit log; not at all, when there is neither."""
    found = position_of(stream)
    return Position() if found is None else found[1]


def done_of(stream: StreamFiles) -> int:
    """Return the number of the source row behind the last one that is done with, as the stream says."""
    return last_position(stream).coverage.end()[0]


def check_recoverable(stream: StreamFiles, source: str) -> Position:
    """Return the position that a stream can be continued from; a sealed one, once it is unsealed. Only reads.

    Args:
        stream: the stream.
        source: the URI of what it is made from.

    Raises:
        StreamError: when it cannot be; see `Sink`.
    """
    storage, path = stream.storage, stream.path
    found = position_of(stream)
    if found is None:
        for there in (path, stream.errors_path, stream.rejected_path):
            if size := storage.size(there):
                raise StreamExistsError(
                    f"{there} has {size} bytes that no commit log accounts for, so nothing is written to it; "
                    "choose another path, or move or delete the file"
                )
        return Position()
    made_from, position = found
    if made_from != source:
        raise StreamChangedError(
            f"{path} was made from {made_from!r}, and is now to be continued from {source!r}; "
            "bind the same input, or choose another output"
        )
    check_data(storage, path, position, whole=False)
    for beside, what, committed in (
        (stream.errors_path, "dead letters", position.errors_bytes),
        (stream.rejected_path, "rejected rows", position.rejected_bytes),
    ):
        found_bytes = storage.size(beside) or 0 if committed else 0
        if found_bytes < committed:
            raise StreamChangedError(
                f"{beside} has {found_bytes} bytes, but {committed} bytes of {what} were "
                "committed: it was shortened or deleted; restore it, or start afresh with if_exists='overwrite'"
            )
    if STATE in position.marks:
        from llm_datagen.streams.state.store import check_state

        check_state(stream, position.marks[STATE])
    return position


def check_data(storage: Storage, path: str, position: Position, *, whole: bool) -> None:
    """Compare the bytes of a stream with the checksums of its position (S3, M22).

    Args:
        storage: where it lies.
        path: its path.
        position: what was committed.
        whole: whether to read a long stream from its first byte, too, and not only what the last flush added.

    Raises:
        StreamChangedError: when the stream is too short.
        StreamCorruptError: when a checksum differs; the message says where.
    """
    if storage.size(path) is None:
        if not position.bytes:
            return
        raise StreamChangedError(
            f"{path} is gone, but {position.bytes} bytes of it were committed; restore it, or start afresh with "
            "if_exists='overwrite'"
        )
    file = storage.open_read(path)
    try:
        if file.size() < position.bytes:
            raise StreamChangedError(
                f"{path} has {file.size()} bytes, but {position.bytes} were committed: it was shortened or deleted "
                "after the run was interrupted; restore it, or start afresh with if_exists='overwrite'"
            )
        crc = at = 0
        if not whole and position.bytes > CHECK_WHOLE_BYTES:
            crc, at = position.last_crc, position.last_bytes
        for end, expected in ((position.last_bytes, position.last_crc), (position.bytes, position.crc)):
            begin = at
            while at < end:
                crc = zlib.crc32(file.read_at(at, min(_CHECK_BYTES, end - at)), crc)
                at += _CHECK_BYTES
            at = end
            if crc != expected:
                raise StreamCorruptError(
                    f"{path}, bytes {begin} to {end}: the checksum is {crc:08x}, {expected:08x} was committed: the "
                    "file was changed after the run was interrupted; restore it, or start afresh with "
                    "if_exists='overwrite'"
                )
    finally:
        file.close()
