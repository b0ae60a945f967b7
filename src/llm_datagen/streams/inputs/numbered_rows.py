"""Inputs whose rows have numbers for addresses: tables, and rows that are computed. They are whole, and only read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from llm_datagen.errors import RowFormatError
from llm_datagen.streams.coverage import START, Coverage, Segment
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.table_cursor import Table, TableCursor
from llm_datagen.streams.read_limit import ReadLimit
from llm_datagen.streams.stream import Stream


class NumberedRows(Stream):
    """A stream of rows that a `Table` gives. They are those of JSON lines, by the settings of the data."""

    codec = JsonlCodec()
    has_tails: bool = False

    @abstractmethod
    def open_table(self) -> Table:
        """Open what gives the rows.

        Raises:
            StreamError: when it is no such table, is damaged, or has columns that rows cannot hold.
            ConfigError: when the library that reads it is not installed.
        """

    @property
    def row_decoder(self) -> Decoder | None:
        """How records are decoded; None: as rows of tables, and lines of JSON."""
        return None

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

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> TableCursor:
        """Return a cursor over some segments."""
        return TableCursor(self, segments, self.row_decoder)

    def rows_before(self, offset: int) -> int:
        """Return how many rows lie before `offset`, which is that number."""
        return offset

    def line_place(self, offset: int) -> str:
        """Return the path and the number of the row, from 1, for messages."""
        return f"{self.shown}, row {offset + 1}"

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which row cannot be read, and why."""
        return RowFormatError(f"{self.line_place(offset)}: this row cannot be read: {error}")
