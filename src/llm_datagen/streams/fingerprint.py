"""A fingerprint: how a resume recognises an input that no commit log or seal describes (M22)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.location import StreamFiles

HEAD_BYTES = 8 * 1024 * 1024
"""How much of an input is looked at, from its beginning."""

PARTS = 4096
"""Checksums that are taken of it, at most: each of 8 bytes or more, of 2 KiB where an input has 8 MiB or more."""

TAIL_BYTES = 64 * 1024
"""How much is looked at just before the first row that is not done."""

_SMALLEST_PART = 8
HINT = (
    "restore it, or start afresh with if_exists='overwrite'; a line that is mended must keep its length in bytes "
    "(in JSON, fill it up with blanks)"
)
"""What to do when an input is not what it was."""


class Fingerprint:
    """Checksums of the beginning of a stream, part by part.

    Only what was read and is done with must be the same: behind that, an input may be edited, and may grow. As plain
    data: ``size`` of the input, bytes a ``part``, ``crcs`` (in hex, 8 digits per part; a list of numbers in earlier
    versions). Earlier versions kept a ``tail`` here, too; now commits do (`Tails`).
    """

    @staticmethod
    def of(stream: StreamFiles) -> dict[str, Any] | None:
        """Return the fingerprint of a stream as it is now, as plain data; None when it does not exist."""
        size = stream.size()
        if size is None:
            return None
        part = max(_SMALLEST_PART, -(-min(size, HEAD_BYTES) // PARTS))
        crcs = _crcs(stream, part, min(size, HEAD_BYTES))
        return {"size": size, "part": part, "crcs": "".join(f"{crc:08x}" for crc in crcs)}

    @staticmethod
    def check(stream: StreamFiles, known: Any, done: Iterable[Span]) -> None:
        """Check that what was read of a stream is still what it was.

        Args:
            stream: the stream.
            known: the fingerprint that was taken before; None checks nothing.
            done: the rows that are done with. Parts that they cover are compared.

        Raises:
            StreamChangedError: when it is not.
        """
        read = _bytes_of(done)
        if known is None or not read:
            return
        size, needed = stream.size(), read[-1][1]
        if size is None or size < needed:
            what = "is gone" if size is None else f"has only {size} bytes now"
            raise StreamChangedError(f"{stream.path} {what}, and {needed} were read before; {HINT}")
        check_kind(stream.path, known, "size", "part", "crcs")
        part, length = known["part"], min(known["size"], HEAD_BYTES)
        now = _crcs(stream, part, min(length, size))  # an input may have been shortened behind what was read
        for number, (before, crc) in enumerate(zip(_known_crcs(known["crcs"]), now, strict=False)):
            begin, end = number * part, min((number + 1) * part, length)
            if before != crc and _is_read(begin, end, read):
                raise _edited(stream, begin, end)
        if "tail" in known:
            Fingerprint.check_tail(stream, known["tail"], done)

    @staticmethod
    def check_tail(stream: StreamFiles, tail: Sequence[int], done: Iterable[Span]) -> None:
        """Check that a part of a stream is still what it was, if its rows are done with.

        Args:
            stream: the stream.
            tail: where the part begins and ends, and its checksum.
            done: the rows that are done with.

        Raises:
            StreamChangedError: when it is not.
        """
        begin, end, before = tail
        if _is_read(begin, end, _bytes_of(done)) and before != _crc(stream, begin, end):
            raise _edited(stream, begin, end)


def is_kind(known: Any, *names: str) -> bool:
    """Return whether a fingerprint has these keys: each kind of input has its own."""
    return isinstance(known, Mapping) and all(name in known for name in names)


def check_kind(path: str, known: Any, *names: str) -> None:
    """Refuse the fingerprint of another kind of input: a file has become a folder, or what is read otherwise.

    Args:
        path: the input.
        known: the fingerprint that was taken before.
        names: the keys that those of this kind have.

    Raises:
        StreamChangedError: when it has others.
    """
    if not is_kind(known, *names):
        raise StreamChangedError(f"{path} was another kind of input (a file, a folder, another format); {HINT}")


def _crcs(stream: StreamFiles, part: int, length: int) -> list[int]:
    file = stream.open_data()
    try:
        head = memoryview(file.read_at(0, length))
        return [zlib.crc32(head[at : at + part]) for at in range(0, len(head), part)]
    finally:
        file.close()


def _known_crcs(crcs: str | list[int]) -> list[int]:
    if isinstance(crcs, list):
        return crcs
    return [int(crcs[at : at + 8], 16) for at in range(0, len(crcs), 8)]


def _crc(stream: StreamFiles, begin: int, end: int) -> int:
    file = stream.open_data()
    try:
        return zlib.crc32(file.read_at(begin, end - begin))
    finally:
        file.close()


def _bytes_of(done: Iterable[Span]) -> list[tuple[int, int]]:
    """Return the bytes of these rows. What comes before the first row, such as a header, was read with it."""
    return [(span.offset if span.start else 0, span.offset_end) for span in done]


def _is_read(begin: int, end: int, read: list[tuple[int, int]]) -> bool:
    """Return whether all of these bytes belong to rows that are done with."""
    return any(first <= begin and end <= last for first, last in read)


def _edited(stream: StreamFiles, begin: int, end: int) -> StreamChangedError:
    return StreamChangedError(
        f"{stream.path}, bytes {begin} to {end}: the input was edited where it had been read already; {HINT}"
    )
