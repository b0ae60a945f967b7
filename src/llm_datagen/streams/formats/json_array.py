"""A JSON array in a file, read as rows: each element is one. Memory holds a block of elements, however long it is.

An element's record is its bytes. It ends behind the comma that follows it, or, where no other element follows, before
what does: before the bracket that closes the array, or before what is wrong. So wherever reading goes on, it does at
an element, or at what ends the array. An element is taken when what follows it was seen. An array is only read.
"""

from __future__ import annotations

import contextlib
import json
import re

import orjson

from llm_datagen.config import UNBOUNDED, DataConfig, set_data_config
from llm_datagen.streams.formats.base import Decoder, Encoder, Split
from llm_datagen.streams.formats.encodings import in_encoding
from llm_datagen.streams.formats.json_text import has_long_number
from llm_datagen.streams.formats.jsonl import MAX_RECORD_BYTES, JsonDecoder
from llm_datagen.streams.formats.unreadable import UTF8_BOM, check_encoding

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SPACE = re.compile(rb"[ \t\r\n]*")
_TO_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+([{}\[\]])", re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^\s,\[\]{}"]++', re.DOTALL)
_SCAN = json.JSONDecoder(strict=False).raw_decode
_CLOSES = {b"{": b"}", b"[": b"]"}
_SHOWN = 40
_TORN = "the array is torn: the file ends before ']'; fetch it again, or write the rest, and resume"


class JsonArrayCodec:
    """The format of a `.json` file that holds one array.

    Args:
        data: the encoding, and what is refused.
    """

    why_only_read = "a JSON array cannot be appended to, so that each row is there once"

    def __init__(self, data: DataConfig | None = None) -> None:
        self._data = data or DataConfig()
        self._most = self._data.max_record_bytes or MAX_RECORD_BYTES
        careful = JsonDecoder(self._data)
        decode: Decoder = careful if self._data.strict or self._data.nan == "null" else orjson.loads
        self._careful, self._decode = in_encoding(careful, self._data), in_encoding(decode, self._data)

    def with_data(self, data: DataConfig) -> JsonArrayCodec:
        """Return the format with other settings."""
        return JsonArrayCodec(data)

    def unbounded(self) -> JsonArrayCodec:
        """Return the format without a longest element."""
        codec = JsonArrayCodec(self._data)
        codec._most = UNBOUNDED
        return codec

    def read_preamble(self, head: bytes, *, final: bool) -> tuple[Decoder, int] | None:
        """Return the decoder, and the offset behind the bracket that opens the array.

        Raises:
            ValueError: when the file does not begin with an array.
        """
        check_encoding(head, self._data.encoding)
        at = _behind_space(head, len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0)
        after = _behind_space(head, at + 1)
        if after >= len(head) and not final:
            return None
        if at >= len(head):  # a file without anything is one without rows
            return self._decode, len(head)
        if head[at : at + 1] != b"[":
            raise ValueError(
                f"a JSON array begins with '[', not with {_shown(head, at)}; are these JSON lines? jsonl://"
            )
        if after >= len(head):
            raise ValueError(_TORN)
        if head[after : after + 1] == b",":
            raise ValueError("the array begins with a comma")
        return self._decode, at + 1

    def split(self, data: bytes, *, final: bool) -> Split:
        """Split `data` into elements. With `final`, what is behind the last one may be missing."""
        return self._split(data, final=final, is_whole=False)

    def split_end(self, data: bytes) -> Split:
        """Split what is left of a file into elements.

        Raises:
            ValueError: when there is no other element, and not the end of an array with nothing behind it.
        """
        return self._split(data, final=True, is_whole=True)

    def _split(self, data: bytes, *, final: bool, is_whole: bool) -> Split:
        records: list[bytes] = []
        ends: list[int] = []
        size, consumed = len(data), 0
        text = data.decode("latin-1")  # a sign for each byte, and quotes and brackets are what they are
        begin = _behind_space(data, 0)
        if data[begin : begin + 1] == b"]":
            return self._end(data, begin, final=final)
        if data[begin : begin + 1] == b",":  # what was before it is done with
            begin = _behind_space(data, begin + 1)
            if begin < size and data[begin : begin + 1] in (b"]", b","):
                raise ValueError(f"an element is missing between ',' and {_shown(data, begin)}")
        while begin < size:
            try:
                end = _end_of(data, text, begin)
            except ValueError:
                if records:
                    break
                raise
            if end is None:
                break
            if end - begin > self._most:
                if records:
                    break
                raise self._too_long()
            behind = _behind_space(data, end)
            sign = data[behind : behind + 1]
            if sign == b",":
                after = _behind_space(data, behind + 1)
                if after >= size and not final:
                    break
                follows = data[after : after + 1]
                is_last = follows in (b"]", b",") or (is_whole and not follows)
                consumed = behind if is_last else behind + 1
            elif sign == b"]" or (not sign and final and not is_whole):
                is_last, consumed, after = True, behind, behind
            elif not sign or records:
                break
            else:
                raise ValueError(f"',' or ']' must stand behind an element, not {_shown(data, behind)}")
            records.append(data[begin:end])
            ends.append(consumed)
            if is_last:
                break
            begin = after
        if not records:
            if is_whole:
                raise ValueError(_TORN)
            if size > self._most:
                raise self._too_long()
        return Split(records, ends, consumed, self._careful if has_long_number(data) else None)

    def _too_long(self) -> ValueError:
        return ValueError(
            f"an element is longer than the {self._most} bytes that a record may have; if it is meant, "
            f"{set_data_config('max_record_bytes')}"
        )

    def _end(self, data: bytes, at: int, *, final: bool) -> Split:
        """Return that nothing more comes, once that is known."""
        behind = _behind_space(data, at + 1)
        if behind < len(data):
            raise ValueError(f"behind the end of the array stands {_shown(data, behind)}; remove what is there")
        return Split([], [], len(data) if final else 0)

    @staticmethod
    def is_boundary(before: bytes, after: bytes) -> bool:
        """Return whether an element can end between two bytes."""
        return before in (b",", b"[") or after in (b",", b"]")

    def encoder(self, head: bytes) -> Encoder:
        """Refuse to write."""
        raise ValueError(self.why_only_read)


def _behind_space(data: bytes, at: int) -> int:
    found = _SPACE.match(data, at)
    return found.end() if found else at


def _end_of(data: bytes, text: str, begin: int) -> int | None:
    """Return where the value ends that begins at `begin`; None when it is not all there.

    The parser finds it several times as fast as a look at brackets, which is for values that are cut off, or no JSON.

    Args:
        data: the bytes.
        text: the same, a sign for each.
        begin: where the value begins.

    Raises:
        ValueError: when brackets do not match, or no value can begin so.
    """
    first = data[begin : begin + 1]
    if first not in _CLOSES:
        found = _SCALAR.match(data, begin)
        if found is not None:
            return found.end()
        if first == b'"':
            return None
        raise ValueError(f"no value begins with {_shown(data, begin)}")
    with contextlib.suppress(ValueError, RecursionError):
        return _SCAN(text, begin)[1]
    open_brackets = [_CLOSES[first]]
    at = begin + 1
    while open_brackets:
        found = _TO_BRACKET.match(data, at)
        if found is None:
            return None
        sign, at = found[1], found.end()
        if sign in _CLOSES:
            open_brackets.append(_CLOSES[sign])
        elif open_brackets.pop() != sign:
            raise ValueError(f"the brackets of an element do not match: {_shown(data, at - 1)}")
    return at


def _shown(data: bytes, at: int) -> str:
    text = data[at : at + _SHOWN].decode("utf-8", "backslashreplace")
    return repr(text) if text else "the end of the file"
