"""A `.json` file: what it holds, its beginning tells: one array, whose elements are rows, or JSON lines."""

from __future__ import annotations

import re
from dataclasses import replace

import orjson

from llm_datagen.config import UNBOUNDED, DataConfig
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.formats.json_array import JsonArrayCodec
from llm_datagen.streams.formats.jsonl import JsonlCodec

HEAD_BYTES = 1 << 16
"""So much of a file is looked at."""

_WRAPPED = re.compile(rb'\{\s*"([^"\\]+)"\s*:\s*\[')
_WRAPPERS = frozenset(("data", "rows", "records", "items", "results", "examples", "instances"))


class JsonFileCodec(JsonlCodec):
    """The format of `.json` files: JSON lines where they are written, and by their beginning where they are read."""

    def with_data(self, data: DataConfig) -> JsonFileCodec:
        """Return the format with other settings."""
        return JsonFileCodec(data)

    def unbounded(self) -> JsonFileCodec:
        """Return the format without a longest record."""
        return JsonFileCodec(replace(self._data, max_record_bytes=UNBOUNDED))

    def codec_of(self, head: bytes) -> Codec:
        """Return the format of a file that other programs have written, and that begins so."""
        return JsonArrayCodec(self._data) if beginning_of(head).startswith(b"[") else self


def beginning_of(head: bytes) -> bytes:
    """Return the beginning of a file from its first sign on."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")


def why_no_lines(head: bytes, name: str, *, is_all: bool, is_json: bool) -> str | None:
    """Return why a file cannot be read as JSON lines, and what to do; None when it can, as far as is seen.

    Args:
        head: its first bytes.
        name: its name, for the command that converts it.
        is_all: whether these are all.
        is_json: whether it is a `.json` file, of which an array is read.
    """
    begin = beginning_of(head)
    first, newline, rest = begin.partition(b"\n")
    first = first.rstrip()
    if first in (b"[", b"[{"):
        if is_json:
            return None
        return "holds a JSON array, and rows are read one per line; read it with json://, or name it .json"
    if not begin.startswith(b"{"):
        return None
    is_one_line = not newline or not rest.strip()
    if (is_one_line and is_all) or (not newline and not is_all):
        is_row = not (is_json and (found := _WRAPPED.match(begin)) and found[1].decode(errors="replace") in _WRAPPERS)
    else:
        is_row = not _is_cut(first)
    if is_row:
        return None
    wrapped = _WRAPPED.match(begin)
    if wrapped is None:
        return (
            "holds a JSON value over several lines, and rows are read one per line; convert it first: "
            f"jq -c '.' {name} > rows.jsonl"
        )
    key = wrapped[1].decode(errors="replace")
    path = f".{key}" if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", key) else f'."{key}"'
    return (
        f"holds one JSON object with the rows in its {key!r}, and rows are read one per line; take them out first: "
        f"jq -c '{path}[]' {name} > rows.jsonl; if it is meant to be one row, read it with jsonl://"
    )


def _is_cut(line: bytes) -> bool:
    """Return whether a line is the beginning of a value that goes on in the next one."""
    if line == b"{" or _WRAPPED.fullmatch(line):
        return True
    try:
        orjson.loads(line)
    except ValueError:
        return line.count(b"{") > line.count(b"}") and line.endswith((b"{", b"[", b",", b":"))
    return False
