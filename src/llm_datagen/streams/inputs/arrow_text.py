"""Dates, moments, spans of time and decimals of Arrow as text: exact, in ISO 8601, and always in the same form."""

from __future__ import annotations

import re
from typing import Any

from llm_datagen.streams.arrow_library import arrow

_FIXED_ZONE = re.compile(r"UTC|Z|[+-]\d\d:\d\d")
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_OUT_OF_RANGE = "<value out of range"  # what a cast writes in the place of the text


def is_told_as_text(kind: Any) -> bool:
    """Return whether values of a type become text here."""
    types = arrow().types
    of_time = types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_duration(kind)
    return bool(of_time or types.is_decimal(kind))


def text_of(column: Any) -> Any:
    """Return an array of such a type as an array of text.

    Raises:
        ValueError: when a moment is out of the range of the calendar.
    """
    types = arrow().types
    if types.is_decimal(column.type):
        return _decimals(column)
    if types.is_duration(column.type):
        return _durations(column)
    pa, compute = arrow(), arrow("pyarrow.compute")
    text = column.cast(pa.string())
    if compute.any(compute.starts_with(text, _OUT_OF_RANGE)).as_py():
        raise ValueError(f"a {column.type} is out of the range of the calendar")
    if types.is_time(column.type):
        return text
    if types.is_timestamp(column.type):
        text = compute.replace_substring(text, " ", "T", max_replacements=1)
        if column.type.tz is not None:
            text = _with_offsets(column, text)
    if (compute.max(compute.year(column)).as_py() or 0) > 9999:  # ISO 8601 marks longer years by a sign
        text = compute.replace_substring_regex(text, r"^(\d{5,}-)", r"+\1")
    return text


def _with_offsets(column: Any, text: Any) -> Any:
    """Return moments with offsets such as ``+01:00``; in UTC where the offset has seconds, as before railways."""
    pa, compute = arrow(), arrow("pyarrow.compute")
    text = compute.replace_substring_regex(text, r"([+-]\d\d)(\d\d)$", r"\1:\2")
    if _FIXED_ZONE.fullmatch(column.type.tz):
        return text
    whole = pa.int64()
    offsets = compute.subtract(compute.local_timestamp(column).cast(whole), column.cast(whole))
    minute = 60 * 10 ** _DIGITS[column.type.unit]
    is_odd = compute.not_equal(compute.multiply(compute.divide(offsets, minute), minute), offsets)
    if not compute.any(is_odd).as_py():
        return text
    return compute.if_else(is_odd, text_of(column.cast(pa.timestamp(column.type.unit, "UTC"))), text)


def _decimals(column: Any) -> Any:
    """Return decimals with all their digits, and without an exponent."""
    pa, compute = arrow(), arrow("pyarrow.compute")
    text = column.cast(pa.string())
    if not compute.any(compute.match_substring(text, "E")).as_py():
        return text
    return pa.array([None if value is None else f"{value:f}" for value in column.to_pylist()], pa.string())


def _durations(column: Any) -> Any:
    """Return spans of time as seconds in ISO 8601: ``PT90.500S``."""
    pa = arrow()
    digits = _DIGITS[column.type.unit]
    values = column.cast(pa.int64()).to_pylist()
    return pa.array([None if value is None else _duration(value, digits) for value in values], pa.string())


def _duration(value: int, digits: int) -> str:
    seconds, rest = divmod(abs(value), 10**digits)
    fraction = f".{rest:0{digits}}" if digits else ""
    return f"{'-' if value < 0 else ''}PT{seconds}{fraction}S"
