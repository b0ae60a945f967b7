"""Inputs whose rows follow from their numbers: row k is made when it is wanted, and the same every time.

Nothing is copied, and a resume goes on at any row at once. The address of a row is its number. There may be no end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from llm_datagen.errors import RowFormatError, StreamError
from llm_datagen.streams.coverage import START, Coverage, Segment, Span
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.table_cursor import ENDLESS, Table, TableCursor
from llm_datagen.streams.read_limit import ReadLimit
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream


class ComputedStream(Stream):
    """Rows that are computed from their numbers, by what a file says.

    Args:
        uri: its URI.
        base: the file, or the files.

    Attributes:
        base: the file, or the files.
    """

    codec = JsonlCodec()
    has_tails: ClassVar[bool] = False

    def __init__(self, uri: str, base: Stream) -> None:
        super().__init__(uri)
        self.base = base
        self.storage = base.storage

    @property
    def row_decoder(self) -> Decoder | None:
        """How records are decoded; None: as lines of JSON."""
        return None

    @abstractmethod
    def open_table(self) -> Table:
        """Return the rows."""

    @abstractmethod
    def total(self) -> int:
        """Return how many rows there are; `ENDLESS` when they never end."""

    def first_named(self) -> int | None:
        """Return the number of the first row that has an `_i`, which others would have, too; None: rows have none."""
        return None

    @property
    def is_endless(self) -> bool:
        """Whether it has no last row."""
        return self.total() == ENDLESS

    @property
    def shown(self) -> str:
        """Where the file lies, as it was given."""
        return self.base.shown

    @property
    def path(self) -> str:
        """Where the file lies."""
        return self.base.path

    @property
    def files_read(self) -> Sequence[str]:
        """The paths of the files."""
        return self.base.files_read

    @property
    def place(self) -> Place:
        """What is read: the file."""
        return self.base.place

    def place_of(self, path: str) -> Place:
        """Return what the file at `path` is, however it is spelled."""
        return self.base.place_of(path)

    def anchor(self) -> None:
        """Make its path absolute."""
        self.base.anchor()

    def size(self) -> int | None:
        """Return the bytes of the file."""
        return self.base.size()

    def is_there(self) -> bool:
        """Return whether there is such a file."""
        return self.base.is_there()

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return self.base.exists()

    def read_seal(self) -> Seal | None:
        """Return the seal of the file."""
        return self.base.read_seal()

    def check_path(self) -> None:
        """Refuse to write.

        Raises:
            StreamError: always.
        """
        raise StreamError(f"{self.uri} is only read: its rows are computed; write to jsonl://")

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return the stream: it does not grow."""
        return [self]

    def readable(self, *, follow: bool = True) -> ReadLimit | None:
        """Return that all of it may be read; None when there is no file."""
        size = self.size()
        return None if size is None else ReadLimit(size, ended=True)

    def size_after(self, done: Coverage) -> int:
        """Return the bytes of the file."""
        return self.size() or 0

    @abstractmethod
    def fingerprint(self, *, follow: bool) -> Any:
        """Return what the rows depend on, as plain data."""

    @abstractmethod
    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the rows are what they were, if rows of it were read.

        Raises:
            StreamChangedError: when they are not.
        """

    def check_resumable(self, done: Coverage) -> None:
        """Do nothing: the fingerprint tells whether the rows are others."""

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> TableCursor:
        """Return a cursor over some segments."""
        return TableCursor(self, segments, self.row_decoder)

    def rows_before(self, offset: int) -> int:
        """Return how many rows lie before `offset`, which is that number."""
        return offset

    def line_place(self, offset: int) -> str:
        """Return the path and the number of the row, from 0, for messages."""
        return f"{self.shown}, row {offset}"

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which row cannot be read, and why."""
        return RowFormatError(f"{self.line_place(offset)}: this row cannot be read: {error}")
