"""Exports as CSV: text as it is, null as an empty cell or as what is chosen, other values as JSON."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import RowFormatError, StreamError
from llm_datagen.streams.formats.csv import CsvEncoder
from llm_datagen.streams.formats.csv_records import CsvSyntax, record_of
from llm_datagen.streams.outputs.arrow import Failed
from llm_datagen.streams.outputs.column_types import MisfitError
from llm_datagen.streams.outputs.options import ExportOptions
from llm_datagen.streams.outputs.part_file import PartFile


class CsvWriter:
    """Writes rows as CSV.

    Args:
        part: the file.
        columns: its columns.
        options: how: `separator`, `quote`, `quoting`, `header`, `encoding` and `nulls`.
    """

    def __init__(self, part: PartFile, columns: Sequence[str], options: ExportOptions) -> None:
        self._part = part
        self._columns = list(columns)
        self._known = frozenset(columns)
        self._options = options
        self._syntax = CsvSyntax(options.separator, options.quote)
        self._encoder = CsvEncoder(self._columns)
        self._encode = codecs.getincrementalencoder(options.encoding)().encode  # a byte order mark comes once
        if columns and options.header:
            try:
                self._write([self._line(self._columns, self._columns)])
            except MisfitError as misfit:
                raise StreamError(f"{part.path}: the header cannot be written: {misfit}") from None

    def write(self, rows: Sequence[dict[str, Any]], failed: Failed) -> int:
        """Write the rows that can be; `failed` is told of the others. Returns how many were written."""
        lines = []
        for number, row in enumerate(rows):
            try:
                unknown = next((name for name in row if name not in self._known), None)
                if unknown is not None:
                    raise MisfitError(unknown, "none", "the header has no such column")
                cells = self._encoder.cells(row, self._columns)
                lines.append(self._record(cells, [row.get(name) for name in self._columns]))
            except MisfitError as misfit:
                failed(number, misfit)
            except (RowFormatError, TypeError, ValueError) as error:
                failed(number, MisfitError("", "csv", str(error)))
        self._write(lines)
        return len(lines)

    def close(self) -> None:
        """Do nothing: a file of lines has no end of its own."""

    def _write(self, lines: list[str]) -> None:
        if lines:
            self._part.write(self._encode("\n".join([*lines, ""])))

    def _record(self, cells: list[str], values: Sequence[Any]) -> str:
        """Return cells as a record, of values that can be told apart by them."""
        options = self._options
        if options.nulls:
            for at, (name, value) in enumerate(zip(self._columns, values, strict=True)):
                if value is None:
                    cells[at] = options.nulls
                elif cells[at] == options.nulls and not (options.quoting == "text" and isinstance(value, str)):
                    raise MisfitError(name, "csv", f"it holds {cells[at]!r}, which stands for null; choose other nulls")
        return self._line(cells, values)

    def _line(self, cells: list[str], values: Sequence[Any]) -> str:
        """Return cells as a record."""
        is_plain = self._options.quoting == "needed"
        record = record_of(cells, self._syntax).decode() if is_plain else self._quoted(cells, values)
        if self._options.encoding != "utf-8":
            self._check_encoding(record, cells)
        return record

    def _quoted(self, cells: list[str], values: Sequence[Any]) -> str:
        quote, is_all = self._options.quote, self._options.quoting == "all"
        parts = [
            f"{quote}{cell.replace(quote, 2 * quote)}{quote}"
            if is_all or isinstance(value, str)
            else record_of([cell, ""], self._syntax).decode()[:-1]
            for cell, value in zip(cells, values, strict=True)
        ]
        record = self._options.separator.join(parts)
        if not record:
            raise MisfitError(self._columns[0], "csv", "a row of one null would be a blank line; choose nulls")
        return record

    def _check_encoding(self, record: str, cells: list[str]) -> None:
        """Check that the encoding has all signs, and writes none of them as another one."""
        if self._holds(record):
            return
        column = next((name for name, cell in zip(self._columns, cells, strict=True) if not self._holds(cell)), "")
        encoding = self._options.encoding
        raise MisfitError(column, "csv", f"it holds a sign that {encoding} lacks; choose another encoding")

    def _holds(self, text: str) -> bool:
        encoding = self._options.encoding
        try:
            return text.encode(encoding).decode(encoding) == text
        except UnicodeError:
            return False
