"""CSV: a header, then one row a record, quoted as RFC 4180 says. Values are text; `_i` is the id it was.

What is not text is written so that nothing is lost: None as an empty cell, true/false and nested values as JSON.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from llm_datagen.config import UNBOUNDED, DataConfig
from llm_datagen.errors import ColumnError, RowValueError
from llm_datagen.streams.formats.base import Encoder, Split
from llm_datagen.streams.formats.csv_records import cells_of, is_open_after, record_of
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
    """

    def __init__(self, columns: list[str], *, is_strict: bool = False) -> None:
        self.columns = columns
        self._is_strict = is_strict
        self._has_id = ID_FIELD in columns

    def __call__(self, record: bytes) -> dict[str, Any]:
        """Return the record as a row.

        Raises:
            ValueError: when the quotes are not closed, or there are more or fewer cells than columns.
        """
        if record.__class__ is LongRecord or (self._is_strict and not record.rstrip(b"\r")):
            raise ValueError("it is too long" if record.rstrip(b"\r") else "it is blank: no row, or one empty cell?")
        cells = cells_of(record)
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells where the header has {len(self.columns)} columns")
        row: dict[str, Any] = dict(zip(self.columns, cells, strict=True))
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
        # setdefault is atomic, so that of several workers that encode a first row exactly one decides.
        self._header: dict[str, tuple[str, ...]] = {}
        self._writes_null = data is not None and data.nan == "null"
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
        columns = self._header.get("columns") or self._header.setdefault("columns", _as_columns(row))
        if len(row) > len(columns) or not row.keys() <= set(columns):
            extra = [name for name in row if name not in columns]
            which = f"row {row[ID_FIELD]!r}" if ID_FIELD in row else "a row"
            raise ColumnError(
                f"{which} has the column {extra[0]!r}, which the header lacks "
                f"({', '.join(columns)}); give every row the same columns, or write to jsonl://"
            )
        try:
            return record_of([self._text(row.get(name), name) for name in columns])
        except (ValueError, TypeError) as error:
            raise refusal(row, error, writes_null=self._writes_null) from None

    encode_other = encode

    def preamble(self) -> bytes:
        """Return the header."""
        return record_of(self._header.get("columns", ())) + b"\n"

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

    def with_data(self, data: DataConfig) -> CsvCodec:
        """Return the format with other settings."""
        return CsvCodec(data)

    def unbounded(self) -> CsvCodec:
        """Return the format without a longest record."""
        return CsvCodec(replace(self._data, max_record_bytes=UNBOUNDED))

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[CsvDecoder, int] | None:
        """Return a decoder for the header, and the offset after it."""
        check_encoding(head)
        start = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
        split = self._split(head[start:], final=final, keep_blank=False)
        if not split.records:
            if len(head) > self.max_record_bytes and head[start:].strip(b"\r\n"):
                raise ValueError(f"the header is longer than {self.max_record_bytes} bytes")
            return (CsvDecoder([]), len(head)) if final else None
        columns = cells_of(split.records[0])
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise ValueError(f"the header names the column {twice[0]!r} more than once")
        decoder = CsvDecoder(columns, is_strict=self._data.strict)
        if split.ends is not None:
            return decoder, start + split.ends[0]
        return decoder, min(len(head), start + len(split.records[0]) + 1)

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into records: at newlines that are not inside quotes.

        Where a quote is not closed within the longest record, or at all, its line is a record by itself, which no
        decoder takes for a row, and the next line begins another one.
        """
        return self._split(data, final=final, keep_blank=self._data.strict)

    def _split(self, data: bytes, *, final: bool, keep_blank: bool) -> Split:
        if b'"' not in data and not keep_blank:
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
                if is_open or b'"' in line:
                    is_open = is_open_after(line, is_open=bool(is_open))
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
        found = self.read_preamble(head, final=False)
        if found is None:
            raise ValueError(f"the header does not end within {len(head)} bytes")
        return CsvEncoder(found[0].columns, self._data)
