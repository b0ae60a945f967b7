"""Types of columns, and values that are compared with them. Plain data, so that a manifest can hold them.

A type is a name (``"int64"``), ``{"list": type}``, ``{"struct": {name: type}}`` or ``{"map": [type, type]}``. A value
is never changed to fit: it is the same when it is read, or it does not fit. ``"json"`` holds any value, as JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.outputs.text_types import reader_of

ColumnType: TypeAlias = str | dict[str, Any]

Mixed = Literal["fail", "json"]
LongInts = Literal["fail", "text", "decimal"]

INTS = {f"{kind}{bits}": _range for bits in (8, 16, 32, 64) for kind, _range in (
    ("int", (-(1 << bits - 1), (1 << bits - 1) - 1)), ("uint", (0, (1 << bits) - 1))
)}  # fmt: skip
"""Types of whole numbers, with the least and the largest that each holds."""

SCALARS = ("null", "bool", *INTS, "float32", "float64", "string", "json", "decimal", "digits")
"""Names of types: of Arrow, but ``decimal`` (whole numbers of up to 38 digits), ``digits`` (whole numbers as text) and
``json``."""

_MIXED = "mixed 'json', or a schema that takes it"
_LONG_INTS = "long_ints 'text' or 'decimal', or a schema that takes it"
_DIGITS = "long_ints 'text', or a schema that takes it"

_MOST_DECIMAL = 10**38
_MOST_EXACT = 1 << 53


class MisfitError(ValueError):
    """Raised when a value does not fit into its column.

    Attributes:
        column: the column, with the names within it: ``answer.score``.
        type: the type of the column.
        reason: why it does not fit.
        remedy: the option of an export whose columns are found in all its rows with which it fits; None: there is none.
    """

    def __init__(self, column: str, type: str, reason: str, remedy: str | None = None) -> None:
        super().__init__(f"column {column!r} ({type}): {reason}")
        self.column = column
        self.type = type
        self.reason = reason
        self.remedy = remedy


def holds_json(type: ColumnType) -> bool:
    """Return whether values must be turned into something else before they are written."""
    if isinstance(type, dict):
        if "map" in type:
            return True
        return any(map(holds_json, type["struct"].values())) if "struct" in type else holds_json(type["list"])
    return type in {"json", "decimal", "digits"} or reader_of(type) is not None


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
        case _, int() if type in INTS and not isinstance(value, bool):
            least, most = INTS[type]
            if least <= value <= most:
                return value
            raise MisfitError(column, type, f"the whole number {str(value)[:40]} is too large or too small", _LONG_INTS)
    read = reader_of(type)
    if read is None:
        raise MisfitError(column, type, f"it holds {named(value)}", _MIXED)
    try:
        return read(value)
    except ValueError as error:
        raise MisfitError(column, type, str(error)) from None


def _fitted_inside(value: Any, type: dict[str, Any], column: str) -> Any:
    if "list" in type:
        if not isinstance(value, list):
            raise MisfitError(column, shown(type), f"it holds {named(value)}", _MIXED)
        return [fitted(each, type["list"], f"{column}[]") for each in value]
    if "map" in type:
        return _fitted_map(value, type, column)
    if not isinstance(value, dict):
        raise MisfitError(column, shown(type), f"it holds {named(value)}", _MIXED)
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
        raise MisfitError(column, type, f"the whole number {str(value)[:40]}… has more than 38 digits", _DIGITS)
    return Decimal(value)


def _real(value: float, type: str, column: str) -> float:
    most = _MOST_EXACT if type == "float64" else 1 << 24
    if isinstance(value, int) and abs(value) > most and int(_as_float(value)) != value:
        raise MisfitError(column, type, f"the whole number {value} is not exact as a float", _MIXED)
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
