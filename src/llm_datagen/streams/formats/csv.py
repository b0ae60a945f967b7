"""CSV: a header, then one row a record, quoted as RFC 4180 says. Values are text; `_i` is the id it was.

What is not text is written so that nothing is lost: None as an empty cell, true/false and nested values as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.config import UNBOUNDED, DataConfig
from llm_datagen.errors import ColumnError, RowValueError
from llm_datagen.streams.formats.base import Encoder, Split
from llm_datagen.streams.formats.cell_types import Convert, converters_of
from llm_datagen.streams.formats.csv_records import PLAIN, CsvSyntax, cells_of, is_open_after, record_of
from llm_datagen.streams.formats.json_values import refusal
from llm_datagen.streams.formats.jsonl import JsonlEncoder, split_lines
from llm_datagen.streams.formats.unreadable import UTF8_BOM, LongRecord, check_encoding
from llm_datagen.streams.ids import ID_FIELD, id_text, parse_id

MAX_RECORD_BYTES = 1 << 20
"""The longest record, unless told otherwise: a quote that is not closed would make a record of all that follows."""


class CsvDecoder:
    """Records as rows.

    Args:
        columns: the header.
        is_strict: whether blank lines are refused.
        syntax: how cells are told apart.
        converters: what reads the cells of columns that are no text.
    """

    def __init__(
        self,
        columns: list[str],
        *,
        is_strict: bool = False,
        syntax: CsvSyntax = PLAIN,
        converters: Mapping[str, Convert] | None = None,
    ) -> None:
        self.columns = columns
        self._syntax = syntax
        self._converters = [(name, convert) for name, convert in (converters or {}).items() if name in columns]
        self._is_strict = is_strict
        self._has_id = ID_FIELD in columns

    def __call__(self, record: bytes) -> dict[str, Any]:
        """Return the record as a row.

        Raises:
            ValueError: when the quotes are not closed, there are more or fewer cells than columns, or a cell is not of
                its column's type.
        """
        if record.__class__ is LongRecord or (self._is_strict and not record.rstrip(b"\r")):
            raise ValueError("it is too long" if record.rstrip(b"\r") else "it is blank: no row, or one empty cell?")
        cells = cells_of(record, self._syntax)
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells where the header has {len(self.columns)} columns")
        row: dict[str, Any] = dict(zip(self.columns, cells, strict=True))
        for name, convert in self._converters:
            row[name] = convert(row[name]) if row[name] else None
        if self._has_id:
            row[ID_FIELD] = parse_id(row[ID_FIELD]) if row[ID_FIELD] else None
        return row


class CsvEncoder:
    """Rows as records. The first row that is encoded decides the columns of a new file.

    Args:
        columns: the header of the file, when it has one.
        data: what becomes of NaN.
    """

    def __init__(self, columns: list[str] | None = None, data: DataConfig | None = None) -> None:
        data = data or DataConfig()
        self._syntax = CsvSyntax(data.separator, data.quote, data.encoding)
        self._dtypes = data.dtypes or {}
        self._converters = converters_of(data.dtypes, data.nan)
        # setdefault is atomic, so that of several workers that encode a first row exactly one decides.
        self._header: dict[str, tuple[str, ...]] = {}
        self._writes_null = data.nan == "null"
        self._nested = JsonlEncoder(data)
        if columns:
            self._header["columns"] = tuple(columns)

    def encode(self, row: dict[str, Any]) -> bytes:
        """Return the row as a record, without its newline.

        Raises:
            ColumnError: when the row has a column that the header lacks.
            RowValueError: when a cell cannot hold a value, naming the column.
        """
        if not row:
            raise ColumnError("a row without any column cannot be written as CSV; filter it out, or write to jsonl://")
        columns = self._header.get("columns") or self._header.setdefault("columns", self._as_columns(row))
        if len(row) > len(columns) or not row.keys() <= set(columns):
            extra = [name for name in row if name not in columns]
            which = f"row {row[ID_FIELD]!r}" if ID_FIELD in row else "a row"
            raise ColumnError(
                f"{which} has the column {extra[0]!r}, which the header lacks "
                f"({', '.join(columns)}); give every row the same columns, or write to jsonl://"
            )
        cells = self.cells(row, columns)
        try:
            return record_of(cells, self._syntax)
        except UnicodeEncodeError as error:
            raise refusal(row, error, writes_null=self._writes_null) from None

    encode_other = encode

    def cells(self, row: dict[str, Any], columns: Sequence[str]) -> list[str]:
        """Return the cells of a row, under some columns.

        Raises:
            RowValueError: when a cell cannot hold a value, naming the column.
        """
        try:
            return [self._cell(row.get(name), name) for name in columns]
        except (ValueError, TypeError) as error:
            raise refusal(row, error, writes_null=self._writes_null) from None

    def preamble(self) -> bytes:
        """Return the header."""
        return record_of(self._header.get("columns", ()), self._syntax) + b"\n"

    def _cell(self, value: Any, column: str) -> str:
        """Return the text of a cell, if it is read as what it was.

        Raises:
            ValueError: when it would not be, naming the column.
        """
        kind = self._dtypes.get(column)
        is_json = kind == "json" and value is not None
        text = self._nested.encode_other(value).decode() if is_json else self._text(value, column)
        if kind is not None and text:
            self._converters[column](text)
        self._check_encoding(text, column)
        return text

    def _check_encoding(self, text: str, column: str) -> None:
        """Check that the encoding has all signs, and writes none of them as another one."""
        encoding = self._syntax.encoding
        if encoding != "utf-8" and not text.isascii() and text.encode(encoding, "replace").decode(encoding) != text:
            raise ValueError(f"column {column!r} holds a sign that {encoding} lacks; set another encoding")

    def _text(self, value: Any, column: str) -> str:
        if column == ID_FIELD and value is not None:
            return id_text(value)
        if isinstance(value, str):
            return value
        if value is None:
            return ""
        if isinstance(value, float):
            if math.isfinite(value):
                return float.__repr__(value)
            if self._writes_null:
                return ""
            raise ValueError(f"column {column!r} holds {value}")
        if isinstance(value, int) and not isinstance(value, bool):
            return int.__repr__(value)
        return self._nested.encode_other(value).decode()

    def _as_columns(self, row: dict[str, Any]) -> tuple[str, ...]:
        columns = _as_columns(row)
        try:
            for name in columns:
                self._check_encoding(name, name)
        except ValueError as error:
            raise RowValueError(f"row {row.get(ID_FIELD)!r} cannot be written: the name of a {error}") from None
        return columns


def _as_columns(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the columns of a first row."""
    for name in row:
        if not isinstance(name, str):
            raise RowValueError(f"row {row.get(ID_FIELD)!r} cannot be written: the column {name!r} must be a str")
    first = next(iter(row))
    if first.startswith("\ufeff"):
        raise RowValueError(
            f"row {row.get(ID_FIELD)!r} cannot be written: readers take the first sign of column {first!r} for a byte "
            "order mark; rename it, or write to jsonl://"
        )
    return tuple(row)


class CsvCodec:
    """The format of `.csv` files.

    Args:
        data: what is refused.
    """

    def __init__(self, data: DataConfig | None = None) -> None:
        self._data = data or DataConfig()
        self.max_record_bytes = self._data.max_record_bytes or MAX_RECORD_BYTES
        self._syntax = CsvSyntax(self._data.separator, self._data.quote, self._data.encoding)
        self._converters = converters_of(self._data.dtypes, self._data.nan)
        self._is_own = False

    @property
    def separator(self) -> str:
        """What stands between cells."""
        return self._syntax.separator

    def with_data(self, data: DataConfig) -> CsvCodec:
        """Return the format with other settings."""
        return CsvCodec(data)

    def unbounded(self) -> CsvCodec:
        """Return the format of what the engine wrote: with a header, and no longest record."""
        codec = CsvCodec(replace(self._data, max_record_bytes=UNBOUNDED, header=None))
        codec._is_own = True
        return codec

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[CsvDecoder, int] | None:
        """Return a decoder for the header, and the offset after it."""
        if len(head) < len(UTF8_BOM) and UTF8_BOM.startswith(head) and not final:
            return None
        check_encoding(head, self._data.encoding)
        start = len(UTF8_BOM) if head.startswith(UTF8_BOM) and self._data.encoding == "utf-8" else 0
        if self._data.header is not None:
            return self._decoder(self._data.header), start
        split = self._split(head[start:], final=final, keep_blank=False)
        if not split.records:
            if len(head) > self.max_record_bytes and head[start:].strip(b"\r\n"):
                raise ValueError(f"the header is longer than {self.max_record_bytes} bytes")
            return (CsvDecoder([]), len(head)) if final else None
        columns = cells_of(split.records[0], self._syntax)
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise ValueError(f"the header names the column {twice[0]!r} more than once")
        decoder = self._decoder(columns)
        if split.ends is not None:
            return decoder, start + split.ends[0]
        return decoder, min(len(head), start + len(split.records[0]) + 1)

    def _decoder(self, columns: list[str]) -> CsvDecoder:
        missing = [name for name in self._converters if name not in columns]
        if missing and not self._is_own:
            raise ValueError(f"dtypes names the column {missing[0]!r}, and there are only: {', '.join(columns)}")
        return CsvDecoder(columns, is_strict=self._data.strict, syntax=self._syntax, converters=self._converters)

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into records: at newlines that are not inside quotes.

        Where a quote is not closed within the longest record, or at all, its line is a record by itself, which no
        decoder takes for a row, and the next line begins another one.
        """
        return self._split(data, final=final, keep_blank=self._data.strict)

    def _split(self, data: bytes, *, final: bool, keep_blank: bool) -> Split:
        if self._syntax.quote_byte not in data and not keep_blank:
            split = split_lines(data, final=final)
            return split.up_to(self.max_record_bytes) if len(data) > self.max_record_bytes else split
        most = self.max_record_bytes
        records: list[bytes] = []
        ends: list[int] = []
        lines = data.split(b"\n")
        last = len(lines) - 1  # what has no newline behind it
        first = number = begin = at = 0  # the record's first line, the present one, and the bytes where they begin
        is_open: bool | None = False  # within a quoted cell
        while number <= last:
            line, is_whole = lines[number], number < last or final
            if not is_whole or (number == last and not line and not is_open):
                if not is_open or len(data) - begin <= most:  # what is left is no record, or not yet
                    break
            else:
                at += len(line) + 1
                if is_open or self._syntax.quote_byte in line:
                    is_open = is_open_after(line, is_open=bool(is_open), syntax=self._syntax)
            is_long = at - 1 - begin > most
            if is_open and is_whole and not is_long and number < last:
                number += 1
                continue
            if is_open or is_open is None or is_long:  # give its first line up, and go on behind that
                number, line = first, lines[first]
                if len(line) > most:
                    return Split(records, ends, begin)
                at, is_open = begin + len(line) + 1, False
            record = data[begin : at - 1]
            if keep_blank or (record and record != b"\r"):
                records.append(record)
                ends.append(min(at, len(data)))
            elif ends:
                ends[-1] = min(at, len(data))
            number += 1
            first, begin = number, at
        return Split(records, ends, min(begin, len(data)) if not final else len(data))

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder that goes on with the header of the file, if it has one."""
        if not head:
            return CsvEncoder(data=self._data)
        found = self.unbounded().read_preamble(head, final=False)
        if found is None:
            raise ValueError(f"the header does not end within {len(head)} bytes")
        return CsvEncoder(found[0].columns, self._data)
