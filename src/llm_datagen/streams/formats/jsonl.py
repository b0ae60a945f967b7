"""JSON lines: one JSON value a line. Blank lines are passed over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from llm_datagen.config import UNBOUNDED, DataConfig, Nan
from llm_datagen.streams.formats.base import Decoder, Encoder, Split
from llm_datagen.streams.formats.encodings import JsonTranscoder, in_encoding
from llm_datagen.streams.formats.json_text import dumps, has_long_number, loads, without_lone_surrogates
from llm_datagen.streams.formats.json_values import fields_of, has_non_finite, refusal
from llm_datagen.streams.formats.unreadable import UTF8_BOM, LongRecord, UnreadableRecord, check_encoding

MAX_RECORD_BYTES = 64 << 20
"""The longest line, unless told otherwise. Longer than of CSV: a line ends whatever it holds, and images are long."""

_ALL = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS
_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS
_has_null = re.compile(rb"null").search  # `in` takes half as long again
_HARMLESS = frozenset((bool, type(None)))
_FEW = 8
"""The values of shorter lists are looked at: that takes less than to look for a word in the record."""
_SHORT = 100
"""In a record of fewer bytes per value, to look for a word takes less than to look at the values."""


def split_lines(data: bytes, *, final: bool) -> Split:
    """Split `data` at newlines into lines that are not blank."""
    lines = data.split(b"\n")
    consumed = len(data)
    if not final:
        consumed -= len(lines.pop())  # what follows the last newline is not whole yet
    elif not lines[-1]:
        lines.pop()
    if b"" not in lines and b"\r" not in lines:
        return Split(lines, None, consumed)
    return without_blanks(lines, consumed)


def without_blanks(lines: list[bytes], consumed: int) -> Split:
    """Return the split of `lines`, each followed by a newline, that leaves out blank ones."""
    records: list[bytes] = []
    ends: list[int] = []
    at = 0
    for line in lines:
        at += len(line) + 1
        if line and line != b"\r":
            records.append(line)
            ends.append(at)
        elif ends:
            ends[-1] = at  # blank lines belong to the record before them
    if ends:
        ends[-1] = consumed
    return Split(records, ends, consumed)


@dataclass(frozen=True, slots=True)
class JsonDecoder:
    """Lines as rows, where `orjson.loads` does not do: it is faster, and takes integers over 64 bits for doubles.

    Args:
        data: what is refused.
    """

    data: DataConfig

    def __call__(self, record: bytes) -> Any:
        """Return the row of a line.

        Raises:
            ValueError: when it is none.
        """
        is_strict = self.data.strict
        try:
            value = orjson.loads(record)
            if not is_strict and not has_long_number(record):
                return value
        except ValueError as error:
            if isinstance(record, LongRecord | UnreadableRecord):
                raise
            value = _read_leniently(record, error, self.data.nan)
            if not is_strict:
                return value
        if is_strict:
            return loads(record.decode(), nan=self.data.nan, names="once", digits="exact")
        return loads(record.decode(), nan=self.data.nan)


def _read_leniently(record: bytes, error: ValueError, nan: Nan) -> Any:
    """Return a line that orjson does not take, if it holds nothing worse than NaN or integers of 310 digits."""
    try:
        value = loads(record.decode(), nan=nan)
        is_text = without_lone_surrogates(value) == value
    except (ValueError, RecursionError):
        raise error from None
    if not is_text:
        raise error
    return value


def _dumped(row: Any) -> bytes:
    return orjson.dumps(row, fields_of, _PLAIN)


def _checked(encode_other: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return what encodes a row of plain values without NaN, and leaves others to `encode_other`.

    Each row comes here, and each step costs a hundredth of a cheap node.
    """
    dumps_plain, fields, plain, harmless, has_null = orjson.dumps, fields_of, _PLAIN, _HARMLESS, _has_null

    def encode(row: dict[str, Any]) -> bytes:
        record = dumps_plain(row, fields, plain)
        if len(record) < _SHORT * len(row) and not has_null(record):
            return record
        for value in row.values():
            kind = value.__class__
            if kind is str or kind is int:
                continue
            if kind is float:
                if value - value:  # NaN, and infinities
                    return encode_other(row)
            elif kind is list and len(value) <= _FEW:
                for each in value:
                    kind = each.__class__
                    if kind is not str and kind is not int:
                        return encode_other(row) if has_null(record) else record
            elif kind not in harmless:
                return encode_other(row) if has_null(record) else record
        return record

    return encode


class JsonlEncoder:
    """Rows as JSON lines.

    Args:
        data: what becomes of NaN.
    """

    def __init__(self, data: DataConfig | None = None) -> None:
        self._writes_null = data is not None and data.nan == "null"
        self.encode: Callable[[Any], bytes] = _dumped if self._writes_null else _checked(self.encode_other)

    def encode_other(self, row: Any) -> bytes:
        """Return any row as a line: with NumPy's values, and integers of any length.

        Raises:
            RowValueError: when JSON cannot hold it, naming the column.
        """
        try:
            record = dumps(row, default=fields_of, option=_ALL)
        except TypeError as error:
            raise refusal(row, error, writes_null=self._writes_null) from None
        if not self._writes_null and _has_null(record) and has_non_finite(row):
            raise refusal(row, ValueError("it holds NaN or an infinity"), writes_null=False)
        return record

    def preamble(self) -> bytes:
        """Return nothing: JSON lines have no header."""
        return b""


class JsonlCodec:
    """The format of `.jsonl` files.

    Args:
        data: what is refused.
    """

    def __init__(self, data: DataConfig | None = None) -> None:
        self._data = data or DataConfig()
        self.max_record_bytes = self._data.max_record_bytes or MAX_RECORD_BYTES
        careful = JsonDecoder(self._data)
        decode = careful if self._data.strict or self._data.nan == "null" else orjson.loads
        self._careful, self._decode = in_encoding(careful, self._data), in_encoding(decode, self._data)

    @property
    def is_utf8(self) -> bool:
        """Whether its text is in UTF-8."""
        return self._data.encoding == "utf-8"

    def with_data(self, data: DataConfig) -> JsonlCodec:
        """Return the format with other settings."""
        return JsonlCodec(data)

    def unbounded(self) -> JsonlCodec:
        """Return the format without a longest record."""
        return JsonlCodec(replace(self._data, max_record_bytes=UNBOUNDED))

    @property
    def decode_exactly(self) -> Decoder:
        """The decoder for records with whole numbers of more than 64 bits."""
        return self._careful

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[Decoder, int] | None:
        """Return the decoder, and the offset after a byte order mark if there is one."""
        if len(head) < len(UTF8_BOM) and UTF8_BOM.startswith(head) and not final:
            return None
        check_encoding(head, self._data.encoding)
        has_mark = head.startswith(UTF8_BOM) and self._data.encoding == "utf-8"
        return self._decode, len(UTF8_BOM) if has_mark else 0

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into lines, up to one that is too long."""
        split = split_lines(data, final=final)
        if len(data) > self.max_record_bytes:
            split = split.up_to(self.max_record_bytes)
        return split._replace(decode=self._careful) if has_long_number(data) else split

    def encoder(self, head: bytes) -> Encoder:
        """Return an encoder."""
        encoder = JsonlEncoder(self._data)
        return encoder if self._data.encoding == "utf-8" else JsonTranscoder(encoder, self._data.encoding)
