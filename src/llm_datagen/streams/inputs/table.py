"""Tables: files of columns, such as Parquet, that are read as rows. The address of a row is its number.

A format of tables is one small file: a `Table`, which gives rows from any number on, and a `TableStream` that opens it.
Everything else is here (going on after a kill, fingerprints, messages), and in `table_cursor` (reading in blocks).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self
from urllib.parse import unquote

from llm_datagen.config import DataConfig
from llm_datagen.errors import RowFormatError, StreamChangedError, StreamError
from llm_datagen.streams.coverage import START, Coverage, Segment, Span
from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.inputs.table_cursor import Table, TableCursor
from llm_datagen.streams.inputs.whole_file import check_fingerprint_of, fingerprint_of
from llm_datagen.streams.read_limit import ReadLimit
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.stored_file import StoredFile
from llm_datagen.streams.stream import Stream

_COLUMNS = "?columns="


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
