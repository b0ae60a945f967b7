"""Types of the cells of CSV: from text to values, exactly, or not at all."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from llm_datagen.config import CellType, Nan
from llm_datagen.streams.formats.json_text import loads

Convert = Callable[[str], Any]
"""Returns the value of a cell that is not empty. Raises ValueError when it has none."""

_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NON_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_FLAGS = {"true": True, "false": False}


def converters_of(dtypes: dict[str, CellType] | None, nan: Nan) -> dict[str, Convert]:
    """Return what reads the cells of each column that has a type."""
    return {column: _checked(column, kind, _reader_of(kind, nan)) for column, kind in (dtypes or {}).items()}


def _checked(column: str, kind: CellType, read: Convert) -> Convert:
    def convert(cell: str) -> Any:
        try:
            return read(cell)
        except (ValueError, KeyError, RecursionError):
            raise ValueError(f"column {column!r} holds {cell[:80]!r}, which is no {kind}, as dtypes says") from None

    return convert


def _reader_of(kind: CellType, nan: Nan) -> Convert:
    if kind == "int":
        return lambda cell: int(_matched(_INT, cell))
    if kind == "float":
        return lambda cell: None if nan == "null" and _NON_FINITE.fullmatch(cell) else _finite(cell)
    if kind == "bool":
        return lambda cell: _FLAGS[cell.lower()]
    if kind == "json":
        return lambda cell: loads(cell, nan=nan)
    return str


def _matched(pattern: re.Pattern[str], cell: str) -> str:
    if not pattern.fullmatch(cell):
        raise ValueError(cell)
    return cell


def _finite(cell: str) -> float:
    value = float(_matched(_FLOAT, cell))
    if not math.isfinite(value):
        raise ValueError(cell)
    return value
