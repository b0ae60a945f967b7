"""Types of columns: found in rows, widened, and compared with values. Plain data, so that a manifest can hold them.

A type is a name (``"int64"``), ``{"list": type}``, ``{"struct": {name: type}}`` or ``{"map": [type, type]}``. A value
is never changed to fit: it is the same when it is read, or it does not fit. ``"json"`` holds any value, as JSON text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.outputs.text_types import reader_of

ColumnType: TypeAlias = str | dict[str, Any]

Mixed = Literal["fail", "json"]
LongInts = Literal["fail", "text", "decimal"]

_INTS = {f"{kind}{bits}": _range for bits in (8, 16, 32, 64) for kind, _range in (
    ("int", (-(1 << bits - 1), (1 << bits - 1) - 1)), ("uint", (0, (1 << bits) - 1))
)}  # fmt: skip
SCALARS = ("null", "bool", *_INTS, "float32", "float64", "string", "json", "decimal", "digits")
"""Names of types: of Arrow, but ``decimal`` (whole numbers of up to 38 digits), ``digits`` (whole numbers as text) and
``json``."""

_NATURAL = "int63"
"""Of values that were found: whole numbers that int64 and uint64 hold alike."""

_FOUND_INTS = {_NATURAL: (0, (1 << 63) - 1), "int64": _INTS["int64"], "uint64": _INTS["uint64"]}
"""Types of whole numbers that are found, the narrowest first."""

_EXACT = "exact "
"""Before the type of whole numbers that were found: float64 holds each of them, too."""

_LONG = "long "
"""Before the type that the first of some whole numbers have: others were found that it does not hold."""

_MOST_DECIMAL = 10**38
_MOST_EXACT = 1 << 53
_MOST_FIELDS = 2000


class MisfitError(ValueError):
    """Raised when a value does not fit into its column.

    Attributes:
        column: the column, with the names within it: ``answer.score``.
        type: the type of the column.
        reason: why it does not fit.
    """

    def __init__(self, column: str, type: str, reason: str) -> None:
        super().__init__(f"column {column!r} ({type}): {reason}")
        self.column = column
        self.type = type
        self.reason = reason


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
    """Return whether two types that were found differ at most in columns that one lacks, or where it has only nulls."""
    if "null" in (one, other) or one == other:
        return True
    if isinstance(one, str) or isinstance(other, str) or one.keys() != other.keys():
        return False
    if "list" in one:
        return is_same_kind(one["list"], other["list"])
    here, there = one["struct"], other["struct"]
    return all(is_same_kind(here[name], there[name]) for name in here.keys() & there.keys())


def holds_json(type: ColumnType) -> bool:
    """Return whether values must be turned into something else before they are written."""
    if isinstance(type, dict):
        if "map" in type:
            return True
        return any(map(holds_json, type["struct"].values())) if "struct" in type else holds_json(type["list"])
    return type in {"json", "decimal", "digits"} or reader_of(type) is not None


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
    return found == "int64" and isinstance(type, str) and _bare(type) in {_NATURAL, *_INTS, "float64", "float32"}


def fitted(value: Any, type: ColumnType, column: str) -> Any:
    """Return a value as it is written into a column.

    Raises:
        MisfitError: when it does not fit.
    """
    if value is None:
        return None
    if isinstance(type, dict):
        return _fitted_inside(value, type, column)
    match type, value:
        case "json", _:
            return json_text(value, column)
        case "bool", bool():
            return value
        case "string", str():
            return _whole_text(value, column)
        case (("decimal" | "digits"), int()) if not isinstance(value, bool):
            return _long(value, type, column)
        case (("float64" | "float32"), (float() | int())) if not isinstance(value, bool):
            return _real(value, type, column)
        case _, int() if type in _INTS and not isinstance(value, bool):
            least, most = _INTS[type]
            if least <= value <= most:
                return value
            raise MisfitError(column, type, f"the whole number {str(value)[:40]} is too large or too small")
    read = reader_of(type)
    if read is None:
        raise MisfitError(column, type, f"it holds {named(value)}")
    try:
        return read(value)
    except ValueError as error:
        raise MisfitError(column, type, str(error)) from None


def _fitted_inside(value: Any, type: dict[str, Any], column: str) -> Any:
    if "list" in type:
        if not isinstance(value, list):
            raise MisfitError(column, shown(type), f"it holds {named(value)}")
        return [fitted(each, type["list"], f"{column}[]") for each in value]
    if "map" in type:
        return _fitted_map(value, type, column)
    if not isinstance(value, dict):
        raise MisfitError(column, shown(type), f"it holds {named(value)}")
    fields = type["struct"]
    if unknown := next((name for name in value if name not in fields), None):
        raise MisfitError(f"{column}.{unknown}", "none", "the schema has no such column")
    return {name: fitted(each, fields[name], f"{column}.{name}") for name, each in value.items()}


def _fitted_map(value: Any, type: dict[str, Any], column: str) -> list[tuple[Any, Any]]:
    """Return an object, where keys are text, or a list of ``[key, value]``, as pairs: the forms that inputs give."""
    of_key, of_value = type["map"]
    if isinstance(value, dict) and of_key == "string":
        pairs: Any = value.items()
    elif isinstance(value, list) and of_key != "string" and all(isinstance(p, list) and len(p) == 2 for p in value):
        pairs = value
    else:
        raise MisfitError(column, shown(type), f"it holds {named(value)}")
    if any(key is None for key, _ in pairs):
        raise MisfitError(column, shown(type), "a key is null")
    return [(fitted(key, of_key, f"{column}.key"), fitted(each, of_value, f"{column}.value")) for key, each in pairs]


def fitted_row(row: Mapping[str, Any], columns: Mapping[str, ColumnType]) -> dict[str, Any]:
    """Return a row as it is written.

    Raises:
        MisfitError: when a value does not fit, or it has a column that the schema lacks.
    """
    for name in row:
        if name not in columns:
            raise MisfitError(name, "none", "the schema has no such column")
    return {name: fitted(value, columns[name], name) for name, value in row.items()}


def json_text(value: Any, column: str) -> str:
    """Return the JSON text of a value.

    Raises:
        MisfitError: when it has none.
    """
    try:
        return dumps(value).decode()
    except (TypeError, ValueError) as error:
        raise MisfitError(column, "json", f"it cannot be written as JSON: {error}") from None


def _whole_text(value: str, column: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError(column, "string", "it holds half a character (a lone surrogate)") from None
    return value


def _long(value: int, type: str, column: str) -> Any:
    if type == "digits":
        return str(value)
    if abs(value) >= _MOST_DECIMAL:
        raise MisfitError(column, type, f"the whole number {str(value)[:40]}… has more than 38 digits")
    return Decimal(value)


def _real(value: float, type: str, column: str) -> float:
    most = _MOST_EXACT if type == "float64" else 1 << 24
    if isinstance(value, int) and abs(value) > most and int(_as_float(value)) != value:
        raise MisfitError(column, type, f"the whole number {value} is not exact as a float")
    if type == "float32":
        import struct

        try:
            exact = struct.unpack("<f", struct.pack("<f", value))[0] == value
        except OverflowError:
            exact = False
        if not exact:
            raise MisfitError(column, type, f"{value!r} is not exact as a float of 32 bits")
    return _as_float(value)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return 0.0


def named(value: Any) -> str:
    """Return what a value is, for people."""
    match value:
        case bool():
            return "a bool"
        case int():
            return "a whole number"
        case float():
            return "a float"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return "null" if value is None else type(value).__name__


def shown(type: ColumnType) -> str:
    """Return a type as text, for people."""
    if isinstance(type, str):
        return type
    if "list" in type:
        return f"list<{shown(type['list'])}>"
    if "map" in type:
        return f"map<{', '.join(map(shown, type['map']))}>"
    return f"struct<{', '.join(f'{name}: {shown(each)}' for name, each in type['struct'].items())}>"
