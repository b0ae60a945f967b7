"""Tables: files of columns, such as Parquet, that are read as rows. The address of a row is its number.

A format of tables is one small file: a `Table`, which gives rows from any number on, and a `TableStream` that opens it.
Everything else is here (going on after a kill, fingerprints, messages), and in `table_cursor` (reading in blocks).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self
from urllib.parse import unquote

from llm_datagen.config import DataConfig
from llm_datagen.errors import StreamChangedError, StreamError
from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.file_streams import FileStream
from llm_datagen.streams.inputs.numbered_rows import NumberedRows
from llm_datagen.streams.inputs.whole_file import check_fingerprint_of, fingerprint_of
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.stored_file import StoredFile

_COLUMNS = "?columns="


class TableStream(NumberedRows, FileStream):
    """A table in a file, which is only read."""

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


def columns_of(uri: str) -> list[str] | None:
    """Return the columns that a URI names, ``data.parquet?columns=id,text``; None when it names none.

    Signs that mean something there are written as ``%2C`` and so on.
    """
    _, sign, names = uri.partition(_COLUMNS)
    return [unquote(name) for name in names.split(",")] if sign else None


def without_columns(text: str) -> str:
    """Return a URI, or a path, without its columns."""
    return text.partition(_COLUMNS)[0]
