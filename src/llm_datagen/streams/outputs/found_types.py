"""Types that values are found to have, and what holds several of them: from rows to the types of columns.

A type that was found says more of whole numbers than one of a column (`settled`): which others hold them, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.streams.outputs.column_types import INTS, ColumnType, LongInts, Mixed

_NATURAL = "int63"
"""Of values that were found: whole numbers that int64 and uint64 hold alike."""

_FOUND_INTS = {_NATURAL: (0, (1 << 63) - 1), "int64": INTS["int64"], "uint64": INTS["uint64"]}
"""Types of whole numbers that are found, the narrowest first."""

_EXACT = "exact "
"""Before the type of whole numbers that were found: float64 holds each of them, too."""

_HELD_BY_INT64: list[ColumnType] = [f"{exact}{name}" for exact in ("", _EXACT) for name in (_NATURAL, "int64")]

_LONG = "long "
"""Before the type that the first of some whole numbers have: others were found that it does not hold."""

_MOST_FIELDS = 2000


def type_of(value: Any, mixed: Mixed) -> ColumnType:
    """Return the narrowest type of a JSON value; `mixed` says which one a list has whose types do not go together."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return _type_of_int(value)
        case float():
            return "float64"
        case str():
            return "string"
        case list():
            of: ColumnType = "null"
            for each in value:
                of = wider(of, type_of(each, mixed), mixed)
            return {"list": of}
        case dict():
            return {"struct": {name: type_of(each, mixed) for name, each in value.items()}}
        case _:
            return "json"


def _type_of_int(value: int) -> str:
    name = next((name for name, (least, most) in _FOUND_INTS.items() if least <= value <= most), None)
    if name is None:
        return f"{_LONG}int64"
    return f"{_EXACT}{name}" if int(float(value)) == value else name


def wider(one: ColumnType, other: ColumnType, mixed: Mixed) -> ColumnType:
    """Return the type that holds what both hold; where none does, ``"json"``, or the first of the two."""
    if other in (one, "null"):
        return one
    if one == "null":
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        if "list" in one and "list" in other:
            return {"list": wider(one["list"], other["list"], mixed)}
        if "struct" in one and "struct" in other:
            return {"struct": wider_fields(one["struct"], other["struct"], mixed)}
    elif isinstance(one, str) and isinstance(other, str):
        if _is_int(one) and _is_int(other):
            return _wider_int(one, other)
        if _is_float_and_exact(one, other) or _is_float_and_exact(other, one):
            return "float64"
    return "json" if mixed == "json" or "json" in (one, other) else one


def _is_int(type: str) -> bool:
    return _bare(type) in _FOUND_INTS


def _is_float_and_exact(one: str, other: str) -> bool:
    return one == "float64" and other.startswith(_EXACT)


def _bare(type: str) -> str:
    return type.removeprefix(_LONG).removeprefix(_EXACT)


def _wider_int(one: str, other: str) -> str:
    """Return the type that holds the whole numbers of both; where none does, the first, marked as too narrow."""
    first, second = _bare(one), _bare(other)
    (least, most), (least_other, most_other) = _FOUND_INTS[first], _FOUND_INTS[second]
    for name, (low, high) in _FOUND_INTS.items():
        if low <= min(least, least_other) and max(most, most_other) <= high:
            are_exact = one.startswith(_EXACT) and other.startswith(_EXACT)
            return f"{_LONG if _LONG in one + other else _EXACT if are_exact else ''}{name}"
    return f"{_LONG}{first}"


def wider_fields(one: dict[str, Any], other: Mapping[str, Any], mixed: Mixed) -> dict[str, Any]:
    """Return the columns of both, those of `one` first."""
    return one | {name: wider(one.get(name, "null"), type, mixed) for name, type in other.items()}


def settled(type: ColumnType, long_ints: LongInts) -> ColumnType:
    """Return the type of a column for what was found in all its rows.

    An object without any name has no columns of its own: it is kept as JSON. So is one of thousands of names.
    """
    if isinstance(type, dict):
        if "list" in type:
            return {"list": settled(type["list"], long_ints)}
        fields = type["struct"]
        if not 0 < len(fields) <= _MOST_FIELDS:
            return "json"
        return {"struct": {name: settled(each, long_ints) for name, each in fields.items()}}
    if holds_long_ints(type) and long_ints != "fail":
        return "digits" if long_ints == "text" else "decimal"
    found = _bare(type)
    return "int64" if found == _NATURAL else found


def holds_long_ints(type: ColumnType) -> bool:
    """Return whether a type that was found is, or has in it, one of whole numbers of more than 63 bits."""
    return any(leaf.startswith(_LONG) or _bare(leaf) == "uint64" for leaf in leaves(type))


def leaves(type: ColumnType) -> Iterator[str]:
    """Yield the names of which a type that was found is made."""
    if isinstance(type, str):
        yield type
    else:
        for of in [type["list"]] if "list" in type else type["struct"].values():
            yield from leaves(of)


def is_same_kind(one: ColumnType, other: ColumnType) -> bool:
    """Return whether `wider` finds of two types what it finds of their values.

    That is so where they differ at most in columns that one lacks, or where it has only nulls; int64 holds whole
    numbers, or JSON text all.
    """
    if one == other or "null" in (one, other) or "json" in (one, other):
        return True
    if isinstance(one, str) or isinstance(other, str):
        return one in _HELD_BY_INT64 and other in _HELD_BY_INT64
    if one.keys() != other.keys():
        return False
    if "list" in one:
        return is_same_kind(one["list"], other["list"])
    here, there = one["struct"], other["struct"]
    return all(is_same_kind(here[name], there[name]) for name in here.keys() & there.keys())


def covers(type: ColumnType, found: ColumnType) -> bool:
    """Return whether all values of a type that was found fit, as far as the types tell."""
    if found in ("null", type) or type == "json":
        return True
    if isinstance(type, dict) and isinstance(found, dict):
        if "list" in type and "list" in found:
            return covers(type["list"], found["list"])
        if "struct" in type and "struct" in found:
            return all(
                name in type["struct"] and covers(type["struct"][name], of) for name, of in found["struct"].items()
            )
        return False
    # Writing them fails where they do not fit.
    return found == "int64" and isinstance(type, str) and _bare(type) in {_NATURAL, *INTS, "float64", "float32"}
