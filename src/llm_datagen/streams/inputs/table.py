"""Tables: files of columns, such as Parquet, that are read as rows. The address of a row is its number.

A format of tables is one small file: a `Table`, which gives rows from any number on, and a `TableStream` that opens it.
Everything else (reading in blocks, going on after a kill, fingerprints, messages) is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, Self
from urllib.parse import unquote

from llm_datagen.config import DataConfig
from llm_datagen.errors import DatagenError, RowFormatError, StreamChangedError, StreamError, StreamMissingError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import START, Coverage, Segment, Span
from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.table_rows import row_decoder
from llm_datagen.streams.inputs.whole_file import check_fingerprint_of, fingerprint_of
from llm_datagen.streams.read_limit import ReadLimit
from llm_datagen.streams.source_cursor import Described
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.stored_file import StoredFile
from llm_datagen.streams.stream import Stream

_COLUMNS = "?columns="

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


class TableStream(FileStream):
    """A table in a file, which is only read. Its rows are those of JSON lines, by the settings of the data."""

    codec = JsonlCodec()
    has_tails: ClassVar[bool] = False

    @property
    def shown(self) -> str:
        """Where the file lies, as it was given."""
        return without_columns(super().shown)

    @property
    def columns(self) -> list[str] | None:
        """Which columns are read; None: all."""
        return columns_of(self.uri)

    def open_file(self) -> Any:
        """Return what pyarrow opens: the path of a file of this machine, or an open file of another storage.

        Raises:
            StreamMissingError: when there is none.
        """
        if isinstance(self.storage, LocalStorage):
            return self.path
        return StoredFile(self.storage.open_read(self.path))

    def with_data(self, data: DataConfig) -> Self:
        """Return the table with other settings; its own text is UTF-8, whatever they say of other files."""
        return super().with_data(replace(data, encoding="utf-8"))

    @abstractmethod
    def open_table(self) -> Table:
        """Open the file.

        Raises:
            StreamError: when it is no such table, is damaged, or has columns that rows cannot hold.
            ConfigError: when the library that reads it is not installed.
        """

    def check_source(self) -> None:
        """Check that what is there is such a table.

        Raises:
            StreamError: when it is not.
        """
        if self.size() is not None:
            self.refuse_special()
            self.open_table().close()

    def check_path(self) -> None:
        """Refuse to write.

        Raises:
            StreamError: always: rows cannot be appended to a table, so that each is there once.
        """
        raise StreamError(
            f"{self.uri}: rows are not appended to a table, since a crash would leave half of one; write JSON "
            "lines, and export them"
        )

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return the table: it does not grow."""
        return [self]

    def readable(self, *, follow: bool = True) -> ReadLimit | None:
        """Return that all of it may be read; None when there is no file."""
        size = self.size()
        return None if size is None else ReadLimit(size, ended=True)

    def size_after(self, done: Coverage) -> int:
        """Return the bytes of the file."""
        return self.size() or 0

    def fingerprint(self, *, follow: bool) -> Any:
        """Return what tells later whether the file was changed; see `whole_file`."""
        return fingerprint_of(self)

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the file is what it was, if rows of it were read.

        Raises:
            StreamChangedError: when it is not.
        """
        if known is not None and any(done):
            check_fingerprint_of(self, known)

    def check_resumable(self, done: Coverage) -> None:
        """Check that the rows that were read before are still there.

        Raises:
            StreamChangedError: when they are not.
        """
        needed, _ = done.end()
        if not needed:
            return
        table = self.open_table()
        try:
            if table.rows < needed:
                raise StreamChangedError(
                    f"{self.path} has {table.rows} rows, but {needed} were read from it before the run was "
                    "interrupted; restore it, or start afresh with if_exists='overwrite'"
                )
        finally:
            table.close()

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> TableCursor:
        """Return a cursor over some segments."""
        return TableCursor(self, segments)

    def rows_before(self, offset: int) -> int:
        """Return how many rows lie before `offset`, which is that number."""
        return offset

    def line_place(self, offset: int) -> str:
        """Return the path and the number of the row, from 1, for messages."""
        return f"{self.shown}, row {offset + 1}"

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which row cannot be read, and why."""
        return RowFormatError(f"{self.line_place(offset)}: this row cannot be read: {error}")


def columns_of(uri: str) -> list[str] | None:
    """Return the columns that a URI names, ``data.parquet?columns=id,text``; None when it names none.

    Signs that mean something there are written as ``%2C`` and so on.
    """
    _, sign, names = uri.partition(_COLUMNS)
    return [unquote(name) for name in names.split(",")] if sign else None


def without_columns(text: str) -> str:
    """Return a URI, or a path, without its columns."""
    return text.partition(_COLUMNS)[0]


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
