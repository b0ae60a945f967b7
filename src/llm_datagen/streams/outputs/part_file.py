"""A part of an export: a file that comes into its place whole, or not at all.

How it gets there is the matter of its place. What a process that died has left of it is written over by the next one.
"""

from __future__ import annotations

import zlib
from typing import Any

from llm_datagen.streams.outputs.place import OutputPlace
from llm_datagen.streams.storage.compression import Compression

_CHUNK = 1 << 20


class PartFile:
    """Writes a part. One thread at a time uses it; other programs' writers take it for a binary file.

    Args:
        place: what keeps it.
        path: where it goes.
        temporary: where it lies until it is whole, on the same file system.
        compression: how it is compressed, as a member for each mebibyte of what it holds; None: not.

    Raises:
        DiskError: when it cannot be made.
    """

    def __init__(self, place: OutputPlace, path: str, temporary: str, compression: Compression | None = None) -> None:
        self.path = path
        self.size = 0
        self.crc = 0
        self.rows = 0
        self.closed = False
        self._compression = compression
        self._waiting = bytearray()
        self._given = 0
        self._is_abandoned = False
        self._file = place.new_file(path, temporary)

    def write(self, data: Any) -> int:
        """Add bytes.

        Raises:
            DiskError: when the disk refuses.
        """
        if not self._is_abandoned:
            self._waiting += data
            if len(self._waiting) >= _CHUNK:
                self._flush()
        self._given += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes were given."""
        return self._given

    def flush(self) -> None:
        """Do nothing: it is written in large pieces."""

    def close(self) -> None:
        """Do nothing: `finish()` ends it."""

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return False."""
        return False

    def finish(self) -> None:
        """Put it into its place.

        Raises:
            DiskError: when the disk, or the store, refuses.
        """
        self._flush(is_last=True)
        self._file.put()
        self.closed = True

    def abandon(self) -> None:
        """Remove what there is of it. What is given from then on is dropped."""
        self._is_abandoned = self.closed = True
        self._file.abandon()

    def _flush(self, *, is_last: bool = False) -> None:
        # Pieces of equal lengths, however they came: so that a part that is made again is the same.
        while self._waiting and (is_last or len(self._waiting) >= _CHUNK):
            piece = bytes(self._waiting[:_CHUNK])
            del self._waiting[:_CHUNK]
            data = piece if self._compression is None else self._compression.compress(piece)
            self._file.write(data)
            self.size += len(data)
            self.crc = zlib.crc32(data, self.crc)
        if is_last and not self.size and self._compression is not None:
            data = self._compression.compress(b"")  # an empty file is no whole file of any compression
            self._file.write(data)
            self.size, self.crc = len(data), zlib.crc32(data)
