"""CSV: a header, then one row a record, quoted as RFC 4180 says. Values are text; `_i` is the id it was.

What is not text is written so that nothing is lost: None as an empty cell, true/false and nested values as JSON.
"""

from __future__ import annotations

import csv
from typing import Any

import orjson

from llm_datagen.errors import ColumnError
from llm_datagen.ids import ID_FIELD, parse_id
from llm_datagen.streams.codec import Encoder, Split
from llm_datagen.streams.jsonl import split_lines

_BOM = b"\xef\xbb\xbf"


class _Echo:
    """A file for csv.writer whose write() hands the record back."""

    @staticmethod
    def write(record: str) -> str:
        return record


def _cells(record: bytes) -> list[str]:
    text = record.decode("utf-8")
    try:
        return next(csv.reader((text,), strict=True), [])
    except csv.Error as error:
        if "field limit" in str(error):  # the module's limit of 128 KiB a cell is not one of the format
            csv.field_size_limit(max(len(text), csv.field_size_limit()) * 2)
            return _cells(record)
        raise ValueError(str(error)) from None


class CsvDecoder:
    """Records as rows.

    Args:
        columns: the header.
    """

    def __init__(self, columns: list[str]) -> None:
        self.columns = columns
        self._has_id = ID_FIELD in columns

    def __call__(self, record: bytes) -> dict[str, Any]:
        """Return the record as a row.

        Raises:
            ValueError: when the quotes are not closed, or there are more or fewer cells than columns.
        """
        cells = _cells(record)
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
    """

    def __init__(self, columns: list[str] | None = None) -> None:
        # setdefault is atomic, so that of several workers that encode a first row exactly one decides.
        self._header: dict[str, tuple[str, ...]] = {}
        if columns:
            self._header["columns"] = tuple(columns)

    def encode(self, row: dict[str, Any]) -> bytes:
        """Return the row as a record, without its newline.

        Raises:
            ColumnError: when the row has a column that the header lacks.
        """
        if not row:
            raise ColumnError("a row without any column cannot be written as CSV; filter it out, or write to jsonl://")
        columns = self._header.get("columns") or self._header.setdefault("columns", tuple(row))
        if len(row) > len(columns) or not row.keys() <= set(columns):
            extra = [name for name in row if name not in columns]
            which = f"row {row[ID_FIELD]!r}" if ID_FIELD in row else "a row"
            raise ColumnError(
                f"{which} has the column {extra[0]!r}, which the header lacks "
                f"({', '.join(columns)}); give every row the same columns, or write to jsonl://"
            )
        return _record(row.get(name) for name in columns)

    encode_other = encode

    def preamble(self) -> bytes:
        """Return the header."""
        return _record(self._header.get("columns", ())) + b"\n"


def _record(values: Any) -> bytes:
    # The writer quotes what is part of its line terminator, and a bare \r in a cell has to be quoted too.
    line: str = csv.writer(_Echo, lineterminator="\r\n").writerow([_text(value) for value in values])
    return line[:-2].encode("utf-8")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode("utf-8")


class CsvCodec:
    """The format of `.csv` files."""

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[CsvDecoder, int] | None:
        """Return a decoder for the header, and the offset after it."""
        start = len(_BOM) if head.startswith(_BOM) else 0
        split = self.split(head[start:], final=final)
        if not split.records:
            return (CsvDecoder([]), len(head)) if final else None
        columns = _cells(split.records[0])
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise ValueError(f"the header names the column {twice[0]!r} more than once")
        if split.ends is not None:
            return CsvDecoder(columns), start + split.ends[0]
        return CsvDecoder(columns), min(len(head), start + len(split.records[0]) + 1)

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into records: at newlines that are not inside quotes."""
        if b'"' not in data:
            return split_lines(data, final=final)
        records: list[bytes] = []
        ends: list[int] = []
        begin = at = 0
        is_open = False  # inside a quoted cell: an odd number of quotes so far
        for line in data.split(b"\n"):
            at += len(line) + 1
            if line.count(b'"') % 2:
                is_open = not is_open
            if is_open:
                continue
            if at > len(data):  # the last piece has no newline
                break
            record = data[begin : at - 1]
            if record and record != b"\r":
                records.append(record)
                ends.append(at)
            elif ends:
                ends[-1] = at
            begin = at
        if not final:
            return Split(records, ends, begin)
        rest = data[begin:]
        if rest.strip(b"\r\n"):
            records.append(rest)
            ends.append(len(data))
        elif ends:
            ends[-1] = len(data)
        return Split(records, ends, len(data))

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder that goes on with the header of the file, if it has one."""
        if not head:
            return CsvEncoder()
        found = self.read_preamble(head, final=False)
        if found is None:
            raise ValueError(f"the header does not end within {len(head)} bytes")
        return CsvEncoder(found[0].columns)
