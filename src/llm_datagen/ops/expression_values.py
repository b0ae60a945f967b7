"""Values in conditions: compared and computed with as JSON has them, text with text and numbers with numbers.

Another kind is an error and never just false.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from llm_datagen.errors import RowDataError
from llm_datagen.errors.advice import a_kind
from llm_datagen.ops.base import refuse_missing

FUNCTIONS = ("len", "lower", "abs", "min", "max", "round")
"""The functions that a condition may call."""

_MOST_DIGITS = 400
"""Of `round`."""


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    kinds: dict[type, str] = {str: "text", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(type(value)) or a_kind(type(value))


def as_truth(value: Any) -> bool:
    """Return a value that is true or false.

    Raises:
        RowDataError: when it is another.
    """
    if not isinstance(value, bool):
        raise RowDataError(f"true or false is needed, and {_short(value)} is {_kind(value)}; compare it with something")
    return value


def as_number(value: Any) -> Any:
    """Return a value that is a number.

    Raises:
        RowDataError: when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowDataError(f"a number is needed, and {_short(value)} is {_kind(value)}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _refuse_kinds(left: Any, right: Any) -> NoReturn:
    raise RowDataError(f"{_short(left)} is {_kind(left)}, and cannot be compared with {_short(right)}, {_kind(right)}")


def are_equal(left: Any, right: Any) -> bool:
    """Return whether two values are the same; null is the same as null alone.

    Raises:
        RowDataError: when they are of two kinds.
    """
    if left is None or right is None:
        return left is right
    if left.__class__ is not right.__class__ and _kind(left) != _kind(right):
        _refuse_kinds(left, right)
    return bool(left == right)


def in_order(compare: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    """Return a comparison, such as `operator.lt`, that raises RowDataError unless it has two numbers or two texts."""

    def ordered(left: Any, right: Any) -> bool:
        kind = _kind(left)
        if kind != _kind(right) or kind not in ("a number", "text"):
            _refuse_kinds(left, right)
        return bool(compare(left, right))

    return ordered


def is_within(left: Any, right: Any) -> bool:
    """Return whether a value is in a list, a text is in another, or an object has a field.

    Raises:
        RowDataError: when the one can never be in the other.
    """
    if isinstance(right, str | dict):
        if not isinstance(left, str):
            raise RowDataError(f"only text can be in {_kind(right)}, and {_short(left)} is {_kind(left)}")
        return left in right
    if not isinstance(right, list):
        raise RowDataError(f"something can be in a list, an object or text, and {_short(right)} is {_kind(right)}")
    if left is not None and right and all(_kind(each) != _kind(left) for each in right):
        _refuse_kinds(left, right)
    return any(_kind(each) == _kind(left) and each == left for each in right)


def element_of(value: Any, key: Any) -> Any:
    """Return the field of an object, or the element of a list or a text.

    Raises:
        RowDataError: when there is none.
    """
    if isinstance(value, dict) and isinstance(key, str):
        if key not in value:
            refuse_missing(value, key)
        return value[key]
    if isinstance(value, list | str) and isinstance(key, int) and not isinstance(key, bool):
        if not -len(value) <= key < len(value):
            raise RowDataError(f"there is no [{key}] in {_kind(value)} of {len(value)}")
        return value[key]
    raise RowDataError(f"{_short(value)} is {_kind(value)}, and has no [{key!r}]")


def sliced(value: Any, begin: Any, end: Any) -> Any:
    """Return a part of a list or a text.

    Raises:
        RowDataError: when it is neither.
    """
    if not isinstance(value, list | str):
        raise RowDataError(f"[{begin}:{end}] is of text and lists, and {_short(value)} is {_kind(value)}")
    return value[begin:end]


def called(name: str, values: list[Any]) -> Any:
    """Return what one of `FUNCTIONS` makes of values.

    Raises:
        RowDataError: when they are not what it takes.
    """
    value = values[0]
    if name == "len":
        if not isinstance(value, str | list | dict):
            raise RowDataError(f"len is of text, lists and objects, and {_short(value)} is {_kind(value)}")
        return len(value)
    if name == "lower":
        if not isinstance(value, str):
            raise RowDataError(f"lower is of text, and {_short(value)} is {_kind(value)}")
        return value.lower()
    if name in ("min", "max"):
        among = value if len(values) == 1 and isinstance(value, list) else values
        if len({_kind(each) for each in among}) > 1 or not among or _kind(among[0]) not in ("a number", "text"):
            raise RowDataError(f"{name} is of numbers, or of texts, and is given {_short(among)}")
        return (min if name == "min" else max)(among)
    if name == "round":
        return _rounded(*map(as_number, values))
    return abs(as_number(value))


def _rounded(value: Any, digits: Any = None) -> Any:
    if digits is not None and abs(digits) > _MOST_DIGITS:  # Python would write out a power of ten with so many
        raise RowDataError(f"round is to {_MOST_DIGITS} digits at most, and is given {_short(digits)}")
    return round(value, digits)
