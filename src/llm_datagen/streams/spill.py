"""A spill file: records that wait to be written; in memory, or, when they are too many for that, in a file."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import IO, Protocol

from llm_datagen.errors import DiskError
from llm_datagen.streams.formats.base import lines_of

SPILL_BYTES = 8 * 1024 * 1024
"""What is more is kept in a file."""

_READ_BYTES = 1 << 20


class Packed(Protocol):
    """Rows as they lie in another stream of the same format: packed, with what a file begins with, if they begin it."""

    def packed_pieces(self) -> Iterator[bytes]:
        """Yield the bytes. What it raises, the append raises, and nothing is committed."""


class SpillError(DiskError):
    """A spill file could not be written: a failure of the disk, which is no row's fault."""


class Spill:
    """Records, in order. The file has no name, and goes with its process, whatever ends that.

    One thread at a time may use it: the worker fills it, then the writer reads it, and closes it: an exception that
    somebody keeps may hold the spill file for long.

    Args:
        folder: where the file lies: where the output does, so that there is room for both. None: there is no file.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._lengths = array("Q")
        self._pieces: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._filed = 0

    def __repr__(self) -> str:
        return f"<Spill of {self.rows} rows>"

    def __len__(self) -> int:
        """Return how many bytes it has."""
        return self._filed + self._held

    @property
    def rows(self) -> int:
        """Records in the spill file."""
        return len(self._lengths)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._held

    @property
    def is_filed(self) -> bool:
        """Whether some of it is in a file."""
        return self._file is not None

    def append(self, records: list[bytes], *, may_file: bool) -> None:
        """Add records, which have no newlines yet.

        Args:
            records: the records.
            may_file: whether what is in memory may be put into the file if it is much.

        Raises:
            SpillError: when the file cannot be written; the records are in the spill file all the same.
        """
        self._lengths.extend(map(len, records))
        piece = lines_of(records)
        self._pieces.append(piece)
        self._held += len(piece)
        if may_file and self._held >= SPILL_BYTES and self._folder is not None:
            self._to_file(self._folder)

    def truncate(self, rows: int) -> None:
        """Keep the first `rows` records."""
        if rows >= self.rows:
            return
        del self._lengths[rows:]
        size = sum(self._lengths) + rows
        if self._file is not None and size < self._filed:
            self._file.truncate(size)
            self._filed = size
        if not size:
            self._close_file()
        kept = b"".join(self._pieces)[: size - self._filed]
        self._pieces, self._held = [kept] if kept else [], len(kept)

    def read_all(self) -> bytes:
        """Return all of it, when it is all in memory."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def last(self) -> bytes:
        """Return the last record, without its newline."""
        size = self._lengths[-1]
        if self._held:  # a record lies in one piece, all in memory or all in the file
            return self._pieces[-1][-size - 1 : -1]
        assert self._file is not None
        self._file.seek(self._filed - size - 1)
        return self._file.read(size)

    def __iter__(self) -> Iterator[bytes]:
        """Yield all bytes, in pieces."""
        at = 0
        while self._file is not None and at < self._filed:
            self._file.seek(at)
            piece = self._file.read(min(_READ_BYTES, self._filed - at))
            if not piece:
                raise SpillError(None, "the file is shorter than what was written to it", self._folder)
            at += len(piece)
            yield piece
        yield from self._pieces

    def close(self) -> None:
        """Let go of all records, and of the file. May be called more than once."""
        self.truncate(0)
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file, self._filed = None, 0

    def _to_file(self, folder: str) -> None:
        import tempfile

        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=folder, prefix=".datagen-", buffering=0)  # noqa: SIM115
            self._file.seek(self._filed)  # what failed half-way is written over
            for piece in self._pieces:
                view = memoryview(piece)
                while view:
                    view = view[self._file.write(view) :]
        except OSError as error:
            raise SpillError(error.errno, error.strerror or str(error), folder) from error
        self._filed += self._held
        self._pieces, self._held = [], 0
