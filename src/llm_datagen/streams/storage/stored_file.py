"""A file of any storage as libraries want one: with a position that reads move on."""

from __future__ import annotations

import io
import os

from llm_datagen.streams.storage.base import ReadFile


class StoredFile(io.RawIOBase):
    """A file that is read. One thread at a time uses it; closing it closes the file of the storage.

    Args:
        file: the file.
    """

    def __init__(self, file: ReadFile) -> None:
        super().__init__()
        self._file = file
        self._size = file.size()
        self._at = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position; return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def size(self) -> int:
        """Return the bytes of the file."""
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end of the file; all that is left without a size."""
        left = max(0, self._size - self._at)
        data = self._file.read_at(self._at, left if size is None or size < 0 else min(size, left))
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """Return all that is left."""
        return self.read()

    def readinto(self, buffer: object) -> int:
        """Fill a buffer; return how many bytes were read."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file. May be called more than once."""
        if not self.closed:
            self._file.close()
        super().close()
