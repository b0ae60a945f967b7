"""JSON text, read and written without loss: integers of any length, and by choice what parsers pass over silently."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any, Literal

import orjson

from llm_datagen.config import Nan

Names = Literal["last", "equal", "once"]
Digits = Literal["nearest", "exact"]

_DIGITS = bytes(ord("0") if byte in b"-0123456789" else byte for byte in range(256))
_LONG = b"0" * 20
_HALF = b"0" * 10
"""What is over 64 bits has 20 digits, or 19 and a sign."""


def dumps(value: Any, *, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """Return JSON data as orjson writes it; integers of more than 64 bits, which orjson refuses, with all their digits.

    Args:
        value: the data.
        default: what makes data of a value that is none.
        option: options of orjson.

    Raises:
        TypeError: when it holds what JSON cannot.
    """
    try:
        return orjson.dumps(value, default, option)
    except TypeError as error:
        if "64-bit" not in str(error):
            raise
        return orjson.dumps(_with_digits(value), default, option)


def loads_exactly(text: bytes) -> Any:
    """Return the data of JSON that `dumps` wrote: as orjson reads it, but integers of any length are exact.

    Raises:
        ValueError: when it is no JSON.
    """
    return loads(text.decode()) if has_long_number(text) else orjson.loads(text)


def has_long_number(data: bytes) -> bool:
    """Return whether there may be an integer of more than 64 bits, which orjson reads as a double."""
    # Of 20 digits in a row, three in a row are among every sixth byte: a look at these costs a sixth, and few short
    # numbers pass it. Ten are among every second byte: of those of a double, which has 17 digits, nine.
    return (
        b"000" in data[::6].translate(_DIGITS)
        and _HALF in data[::2].translate(_DIGITS)
        and _LONG in data.translate(_DIGITS)
    )


def loads(
    text: str, *, strict: bool = True, nan: Nan = "error", names: Names = "last", digits: Digits = "nearest"
) -> Any:
    """Return the data of a JSON text. Integers of any length are exact.

    Args:
        text: the JSON.
        strict: whether control characters within strings are refused.
        nan: whether ``NaN`` and ``Infinity`` are refused, or read as null.
        names: of a name that an object says twice: the last value counts; or they must be equal; or it is refused.
        digits: whether a number with more digits than a double holds is read as the nearest double, or refused.

    Raises:
        ValueError: when it is no JSON, or holds what is refused.
        RecursionError: when it is nested too deeply.
    """
    try:
        return json.loads(
            text,
            strict=strict,
            parse_int=_whole,
            parse_constant=_refused if nan == "error" else _as_null,
            parse_float=_finite if digits == "nearest" else _exact,
            object_pairs_hook=_HOOKS[names],
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from None


def without_lone_surrogates(value: Any) -> Any:
    """Return JSON data in which each half of a surrogate pair that stands alone is U+FFFD; pairs become one sign."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_lone_surrogates(each) for each in value]
    if isinstance(value, dict):
        return {without_lone_surrogates(key): without_lone_surrogates(each) for key, each in value.items()}
    return value


def _with_digits(value: Any) -> Any:
    """Return data for orjson in which integers of more than 64 bits are their digits."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        try:
            return orjson.Fragment(int.__repr__(value))
        except ValueError as error:  # more digits than Python writes
            raise TypeError(str(error)) from None
    if isinstance(value, list | tuple):
        return [_with_digits(each) for each in value]
    if isinstance(value, dict):
        return {key: _with_digits(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _with_digits(getattr(value, field.name)) for field in fields(value)}
    return value


def _refused(word: str) -> Any:
    raise ValueError(f"it holds {word}, which is no JSON number")


def _as_null(_: str) -> None:
    return None


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise ValueError(
            f"it holds a whole number of {len(digits)} digits, and Python reads {most}: see sys.set_int_max_str_digits"
        ) from None


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("it holds a number that is too large")
    return number


def _exact(digits: str) -> float:
    number = _finite(digits)
    if Decimal(digits) != Decimal(repr(number)):
        raise ValueError(f"it holds a number of more digits than a double has: {digits[:40]}")
    return number


def _equal_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) and any(json.dumps(found[name]) != json.dumps(value) for name, value in pairs):
        raise ValueError("an object in it says a name twice, with different values")
    return found


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object in it says the name {next(n for n in names if names.count(n) > 1)!a} twice")
    return found


_HOOKS: dict[str, Callable[[list[tuple[str, Any]]], dict[str, Any]] | None] = {
    "last": None,
    "equal": _equal_names,
    "once": _each_name_once,
}
