"""What of a row JSON cannot hold: found, and named."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import orjson

from llm_datagen.config import set_data_config
from llm_datagen.errors import RowValueError
from llm_datagen.errors.advice import a_kind
from llm_datagen.streams.ids import ID_FIELD

DEEPEST = 254
"""Levels of nesting that can be written."""

_NULLS = "return None, or " + set_data_config("nan='null'")


def has_non_finite(value: Any) -> bool:
    """Return whether a value holds NaN or an infinity, which orjson writes as null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, str | int | None):
        return False
    return any(map(has_non_finite, _inner(value)))


def faults(value: Any, *, place: str = "", depth: int = 0) -> Iterator[str]:
    """Yield what JSON cannot hold, each with its place, such as ``column 'a'[3] holds NaN``."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield f"{place} holds {value}, which no file has a number for: {_NULLS}"
    elif isinstance(value, str):
        if _is_cut(value):
            yield f"{place} holds half a surrogate pair (a cut emoji?), which is no text: {value[:40]!a}"
    elif isinstance(value, dict | list | tuple) and depth == DEEPEST:
        yield f"{place[:80]}… is nested deeper than {DEEPEST} levels"
    elif isinstance(value, dict):
        for key, each in value.items():
            if key.__class__ is not str:
                yield f"{place or 'the row'} has the key {key!r} ({type(key).__name__}), and keys must be str"
            elif _is_cut(key):
                yield f"the key {key[:40]!a} holds half a surrogate pair, which is no text"
            yield from faults(each, place=f"{place}[{key!r}]" if place else f"column {key!r}", depth=depth + 1)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from faults(each, place=f"{place}[{number}]", depth=depth + 1)
    elif isinstance(value, int):
        if _has_too_many_digits(value):
            most = sys.get_int_max_str_digits()
            yield (
                f"{place} holds an integer of more than {most:,} digits, which Python does not write: return it as text"
            )
    elif value is not None:
        if has_non_finite(value):
            yield f"{place} holds NaN or an infinity within {a_kind(type(value))}: {_NULLS}"
        try:
            orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError as error:
            yield f"{place} holds {a_kind(type(value))}, which is no JSON ({error})"


def refusal(row: Any, error: Exception, *, writes_null: bool) -> RowValueError:
    """Return the error of a row that cannot be written: what is wrong with it, or else what its encoder said."""
    row_id = row.get(ID_FIELD) if isinstance(row, dict) else None
    found = (fault for fault in faults(row) if not (writes_null and fault.endswith(_NULLS)))
    return RowValueError(f"row {row_id!r} cannot be written: {next(found, None) or error}")


def shown(value: Any) -> str:
    """Return a value as JSON in one line, for people: integers keep all digits, and what JSON cannot hold is text."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits, or half a surrogate pair
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def fields_of(value: Any) -> dict[str, Any]:
    """Return a dataclass as an object, with all its fields: orjson leaves out those that begin with an underscore.

    Raises:
        TypeError: when it is none.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, enum.Enum):
        return [value.value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if type(value).__module__ == "numpy":
        return [value.tolist()]
    return []


def _has_too_many_digits(value: int) -> bool:
    if value.bit_length() <= 2**10:
        return False
    try:
        int.__repr__(value)
    except ValueError:
        return True
    return False


def _is_cut(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
