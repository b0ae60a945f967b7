"""The spill: where the children of one row wait when they are too many to be held in memory."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Iterator

from llm_datagen.errors import DiskError
from llm_datagen.streams.codec import lines_of

SPILL_BYTES = 8 * 1024 * 1024
"""The children of a row that take more are kept in a file."""

_READ_BYTES = 1 << 20


class SpillError(DiskError):
    """A spill could not be written: a failure of the disk, which is no row's fault."""


class Spill:
    """Records in a file without a name, which goes with its last user, whatever ends that.

    One thread at a time may use it: the worker writes, then the writer reads.

    Args:
        folder: where the file lies: where the output does, so that there is room for both.

    Attributes:
        tail: bytes that follow what is in the file.

    Raises:
        SpillError: when there is no room.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lengths = array("Q")
        self._written = 0
        self.tail = b""
        try:
            self._file = tempfile.TemporaryFile(dir=folder, prefix=".datagen-")  # noqa: SIM115 - closed with the object
        except OSError as error:
            raise self._named(error) from error

    def __repr__(self) -> str:
        return f"<Spill of {self.rows} rows>"

    def __len__(self) -> int:
        return self._written + len(self.tail)

    @property
    def rows(self) -> int:
        """Records in the file."""
        return len(self._lengths)

    def append(self, records: list[bytes]) -> None:
        """Add records."""
        data = lines_of(records)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._named(error) from error
        self._lengths.extend(len(record) + 1 for record in records)
        self._written += len(data)

    def truncate(self, rows: int) -> None:
        """Keep the first `rows` records."""
        del self._lengths[rows:]
        self._written = sum(self._lengths)
        self._file.seek(self._written)
        self._file.truncate()

    def __iter__(self) -> Iterator[bytes]:
        """Yield all bytes, in pieces."""
        fd = self._file.fileno()
        at = 0
        while at < self._written:
            piece = os.pread(fd, min(_READ_BYTES, self._written - at), at)
            if not piece:
                raise self._named(OSError("the file is shorter than what was written to it"))
            at += len(piece)
            yield piece
        if self.tail:
            yield self.tail

    def _named(self, error: OSError) -> SpillError:
        return SpillError(error.errno, error.strerror or str(error), self._folder)
