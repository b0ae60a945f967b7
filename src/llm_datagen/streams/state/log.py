"""The state log, ``<path>.state`` beside a stream: what has changed of a state, in the order of the commits.

The first line is a header: format, the byte of the log at which this file begins, and the running CRC-32 of all before.
Each other line is a change: ``[key, value]``, or ``[key]`` when the key was deleted. Bytes are counted from the first
change that there ever was. Each commit of the stream says how many there are, and their CRC-32; what is beyond was
never committed, and is cut off.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import StreamChangedError, StreamCorruptError
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.storage.base import AppendFile, Storage

FORMAT = 1
_HEAD_BYTES = 256
_READ_BYTES = 1 << 20
_RESTORE = "restore the file, or start afresh with if_exists='overwrite'"


class StateLog:
    """The state log of one stream, which is there or not. One thread at a time may use it.

    Args:
        storage: where it lies.
        path: its path.

    Attributes:
        begin: the byte at which the file begins.

    Raises:
        StreamCorruptError: when its header cannot be read.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self.path = path
        self._file: AppendFile | None = None
        self.begin, self._begin_crc, self._header_bytes = 0, 0, 0
        if storage.size(path):
            self._read_header()

    def _read_header(self) -> None:
        file = self._storage.open_read(self.path)
        try:
            line, newline, _ = file.read_at(0, _HEAD_BYTES).partition(b"\n")
        finally:
            file.close()
        try:
            header = loads_exactly(line)
            if not newline or header["format"] != FORMAT:
                raise ValueError(f"format {header['format']!r} is not {FORMAT}")
            self.begin, self._begin_crc = header["begin"], header["crc"]
        except (KeyError, TypeError, ValueError) as error:
            raise StreamCorruptError(f"{self.path} is no state log: {error}; {_RESTORE}") from error
        self._header_bytes = len(line) + 1

    def check(self, end: int, crc: int) -> None:
        """Compare what was committed with its checksum. Only reads.

        Args:
            end: bytes that were committed.
            crc: their running CRC-32.

        Raises:
            StreamChangedError: when the file is gone, or too short.
            StreamCorruptError: when the checksum differs.
        """
        size = self._storage.size(self.path)
        there = None if size is None else self.begin + size - self._header_bytes
        if (there or 0) < end:
            what = "is gone" if there is None else f"has {there} bytes of changes"
            raise StreamChangedError(f"{self.path} {what}, and {end} were committed: the state is lost; {_RESTORE}")
        found = self._begin_crc
        for piece in self._pieces(self.begin, end) if end > self.begin else ():
            found = zlib.crc32(piece, found)
        if found != crc:
            raise StreamCorruptError(
                f"{self.path}: the checksum is {found:08x}, {crc:08x} was committed: the file was changed; {_RESTORE}"
            )

    def cut(self, end: int, crc: int) -> None:
        """Cut the log to what was committed, and get ready to go on behind it."""
        if self._storage.size(self.path) is None:
            self._start(end, crc, b"")
        else:
            self._append_file().truncate(self._header_bytes + end - self.begin)

    def changes(self, begin: int, end: int) -> Iterator[tuple[Any, bytes | None]]:
        """Yield the changes from byte `begin` to before byte `end`: keys with their values as JSON, None if deleted."""
        rest = b""
        for piece in self._pieces(begin, end):
            lines = (rest + piece).split(b"\n")
            rest = lines.pop()
            for line in lines:
                key, *value = loads_exactly(line)
                key = tuple(key) if isinstance(key, list) else key
                yield key, dumps(value[0]) if value else None

    def append(self, lines: bytes) -> None:
        """Add changes."""
        self._append_file().append(lines)

    def drop_before(self, begin: int, end: int) -> None:
        """Begin the file at byte `begin`, atomically: nobody needs what is before. The log ends at byte `end`."""
        crc = self._begin_crc
        for piece in self._pieces(self.begin, begin):
            crc = zlib.crc32(piece, crc)
        self._start(begin, crc, b"".join(self._pieces(begin, end)))

    def _start(self, begin: int, crc: int, data: bytes) -> None:
        self.close()
        header = dumps({"format": FORMAT, "begin": begin, "crc": crc}) + b"\n"
        self._storage.replace(self.path, header + data, sync=True)
        self.begin, self._begin_crc, self._header_bytes = begin, crc, len(header)

    def sync(self) -> None:
        """Return when the changes are on the medium."""
        self._append_file().sync()

    def close(self) -> None:
        """Close the file. May be called more than once."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append_file(self) -> AppendFile:
        if self._file is None:
            self._file = self._storage.open_append(self.path)
        return self._file

    def _pieces(self, begin: int, end: int) -> Iterator[bytes]:
        file = self._storage.open_read(self.path)
        try:
            while begin < end:
                piece = file.read_at(self._header_bytes + begin - self.begin, min(_READ_BYTES, end - begin))
                if not piece:
                    raise StreamChangedError(f"{self.path} was shortened while it was read; {_RESTORE}")
                begin += len(piece)
                yield piece
        finally:
            file.close()
