"""Rows of a table, read in blocks from any row on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from llm_datagen.errors import DatagenError, StreamError, StreamMissingError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import START, Segment
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.inputs.table_rows import row_decoder
from llm_datagen.streams.source_cursor import Described
from llm_datagen.streams.storage.base import Place

ENDLESS = 2**53
"""The number of rows of what has no end."""


class Table(Protocol):
    """An open table. One thread at a time uses it."""

    @property
    def rows(self) -> int:
        """How many rows it has."""

    @property
    def has_long_numbers(self) -> bool:
        """Whether its rows may hold whole numbers of more than 64 bits."""

    def batches(self, start: int) -> Iterator[list[Any]]:
        """Yield all rows from number `start` on, some thousand at a time.

        Each is a line of JSON without a newline, or a `TableRow`.

        Memory holds a batch or two, however large the table is.

        Raises:
            ValueError: when the file is damaged.
        """

    def close(self) -> None:
        """Close the file. May be called more than once."""


class HasTable(Described, Protocol):
    """A stream whose rows are those of a table."""

    codec: Any

    def size(self) -> int | None:
        """Return the bytes of its file; None when there is none."""

    def open_table(self) -> Table:
        """Open the table."""


class TableCursor:
    """Reads the rows of some segments of a table, in order. One thread at a time may use it. See `SourceCursor`.

    Args:
        stream: the table.
        segments: what to read, in order; only the last may be open-ended.
        decode: how records are decoded; None: rows of tables, and lines of JSON.
    """

    def __init__(self, stream: HasTable, segments: Sequence[Segment], decode: Decoder | None = None) -> None:
        self.stream = stream
        self._segments = list(segments)
        self._table: Table | None = None
        self._batches: Iterator[list[Any]] = iter(())
        self._rest: list[Any] = []
        self._is_placed = False
        self._start, self._at = (segments[0] if segments else START)[:2]
        self._size = 0
        self._given_decoder = decode
        self._decode = decode or row_decoder(stream.codec.read_preamble(b"", final=True)[0])

    @property
    def offset(self) -> int:
        """The number of the next row, which is its address."""
        return self._at

    @property
    def start(self) -> int:
        """The number of the next row, also of the rows of files before this one."""
        return self._start

    @property
    def limit(self) -> int:
        """The bytes of the file."""
        return self._size

    @property
    def knows_end(self) -> bool:
        """Whether the file was opened."""
        return self._table is not None or self.ended()

    @property
    def has_more(self) -> bool:
        """Whether there are rows."""
        return bool(self._segments)

    def estimate(self) -> int | None:
        """Return how many rows there are; None before the file was opened, and of what has no end."""
        return self._table.rows if self._table is not None and self._table.rows < ENDLESS else None

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Do nothing: no node writes tables."""

    def read(self, rows: int) -> Block | None:
        """Return the next rows, `rows` at most; None when there are none.

        Raises:
            StreamMissingError: when the file does not exist.
            StreamError: when it cannot be read.
        """
        table = self._open()
        while self._segments:
            end = table.rows if self._segments[0].offset_end is None else self._segments[0].offset_end
            if self._at >= end:
                self._segments.pop(0)
                self._is_placed = False
                if self._segments:
                    self._start, self._at = self._segments[0][:2]
                continue
            if not self._is_placed:
                self._batches, self._rest, self._is_placed = table.batches(self._at), [], True
            records = self._next(min(rows, end - self._at))
            at, self._at = self._at, self._at + len(records)
            block = Block(records, self._start, at, self._at, list(range(at + 1, self._at + 1)), self._decode)
            self._start = block.end
            return block
        return None

    def ended(self) -> bool:
        """Return whether everything was read."""
        return not self._segments

    def close(self) -> None:
        """Close the file."""
        if self._table is not None:
            self._table.close()
            self._table = None

    def _open(self) -> Table:
        if self._table is None:
            size = self.stream.size()
            if size is None:
                raise StreamMissingError(f"{self.stream.path} does not exist; check the path of the input")
            self._size, self._table, self._is_placed = size, self.stream.open_table(), False
            if self._table.has_long_numbers and self._given_decoder is None:
                self._decode = row_decoder(self.stream.codec.decode_exactly)
        return self._table

    def _next(self, rows: int) -> list[Any]:
        try:
            while not self._rest:
                self._rest = next(self._batches)
        except StopIteration:
            raise StreamError(f"{self.stream.path} ends before row {self._at + 1}, which its footer promises") from None
        except DatagenError:
            raise  # of the store that the file is in: the file is not at fault
        except (ValueError, OSError) as error:
            raise StreamError(
                f"{self.stream.path} cannot be read behind row {self._at}: {error}; the file is damaged, and "
                "what is done is kept. Replace it with a whole one, and resume; where it differs in what a resume "
                "compares, start afresh with if_exists='overwrite'"
            ) from error
        records, self._rest = self._rest[:rows], self._rest[rows:]
        return records
