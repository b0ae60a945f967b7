"""Rows of a record batch that are made when they are wanted, without JSON in between.

Only a batch whose values are the same in Python as when they are read from JSON is kept so: see `is_same`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from threading import Lock
from typing import Any

from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.inputs.arrow_plain import is_list, is_text

_DEEPEST = 50
_MADE_ROWS = 256
"""How many rows are made at once: few stay in the processor's cache."""


class TableRow:
    """A row of a table in the place of a record. As bytes, and in other processes, it is its line of JSON."""

    __slots__ = ("_number", "_rows")

    def __init__(self, rows: _Rows, number: int) -> None:
        self._rows = rows
        self._number = number

    @property
    def columns(self) -> frozenset[str]:
        """The names of its columns."""
        return self._rows.columns

    def value(self) -> dict[str, Any]:
        """Return the row, which is the caller's own: each call makes another one. Any thread may call it."""
        found = self._rows.made.pop(self._number, None)
        return self._rows.make(self._number) if found is None else found

    def __bytes__(self) -> bytes:
        return dumps(self.value())

    def __reduce__(self) -> tuple[Callable[[bytes], bytes], tuple[bytes]]:
        return bytes, (bytes(self),)


class _Rows:
    """Makes the rows of a batch, some at a time. Each that is made is given away once."""

    def __init__(self, batch: Any) -> None:
        self.made: dict[int, dict[str, Any]] = {}
        self.columns = frozenset(batch.schema.names)
        self._batch = batch
        self._lock = Lock()
        self._begun: set[int] = set()

    def make(self, number: int) -> dict[str, Any]:
        begin = number - number % _MADE_ROWS
        with self._lock:
            if begin not in self._begun:
                self._begun.add(begin)
                self.made.update(enumerate(self._batch.slice(begin, _MADE_ROWS).to_pylist(), begin))
        found = self.made.pop(number, None)
        return self.again(number) if found is None else found

    def again(self, number: int) -> dict[str, Any]:
        (row,) = self._batch.slice(number, 1).to_pylist()
        found: dict[str, Any] = row
        return found


def table_rows(batch: Any) -> list[TableRow]:
    """Return the rows of a batch."""
    rows = _Rows(batch)
    return [TableRow(rows, number) for number in range(batch.num_rows)]


@lru_cache(maxsize=64)
def row_decoder(decode: Decoder) -> Decoder:
    """Return what decodes rows of tables, and lines of JSON by `decode`."""
    return partial(_decoded, decode)


def lines_decoder(decode: Decoder) -> Decoder | None:
    """Return how a decoder that `row_decoder` made decodes lines of JSON; None of any other one."""
    return decode.args[0] if isinstance(decode, partial) and decode.func is _decoded else None


def _decoded(decode: Decoder, record: Any) -> Any:
    return record.value() if record.__class__ is TableRow else decode(record)


def is_same(kind: Any, depth: int = 0) -> bool:
    """Return whether values of a type of Arrow are in Python what they are when JSON is read, but for NaN."""
    types = arrow().types
    if types.is_struct(kind) or is_list(kind):
        return depth < _DEEPEST and all(is_same(kind.field(n).type, depth + 1) for n in range(kind.num_fields))
    of_numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    return bool(of_numbers or is_text(kind))
