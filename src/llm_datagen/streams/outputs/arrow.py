"""Rows as Arrow batches. The only module that knows pyarrow's types; it is imported when it is used.

A batch of rows that all fit is checked and turned by pyarrow itself. Where one does not, each row is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.streams.inputs.arrow_values import JSON_MARK
from llm_datagen.streams.outputs.column_types import (
    SCALARS,
    ColumnType,
    MisfitError,
    covers,
    fitted_row,
    holds_json,
    type_of,
    wider_fields,
)

Failed = Callable[[int, MisfitError], None]
"""What is told of a row that does not fit: its number in the batch, and why."""

_ALIASES = {
    **dict.fromkeys(("int", "integer"), "int64"),
    **dict.fromkeys(("float", "double"), "float64"),
    **dict.fromkeys(("str", "text", "large_string", "large_utf8", "utf8"), "string"),
    "boolean": "bool",
}


def pyarrow() -> Any:
    """Return the library.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        import pyarrow as library
    except ImportError:
        raise ConfigError("Parquet files and Arrow folders need pyarrow: pip install 'llm-datagen[parquet]'") from None
    return library


def schema_given(schema: Any) -> dict[str, ColumnType]:
    """Return the columns of a schema as users give it: ``{column: type name}``, or one of pyarrow.

    Raises:
        ConfigError: when a type is none that JSON values can be.
    """
    if isinstance(schema, Mapping):
        return {str(name): _parsed(str(name), text) for name, text in schema.items()}
    if hasattr(schema, "names") and hasattr(schema, "field"):
        return {field.name: _of_field(field) for field in schema}
    raise ConfigError(f"schema must be {{column: type name}} or a pyarrow schema, not {type(schema).__name__}")


def _parsed(column: str, text: Any) -> ColumnType:
    if isinstance(text, dict):
        return text
    name = str(text).strip()
    if name.startswith("list<") and name.endswith(">"):
        return {"list": _parsed(column, name[5:-1])}
    name = _ALIASES.get(name.lower(), name)
    if name not in SCALARS:
        raise ConfigError(
            f"schema: column {column!r}: {text!r} is no type of a JSON value; use {', '.join(SCALARS)}, or "
            "list<…> of one"
        )
    return name


def _of_field(field: Any) -> ColumnType:
    if (field.metadata or {}).items() >= JSON_MARK.items():
        return "json"
    found = of_arrow(field.type)
    if found is None:
        raise ConfigError(f"schema: column {field.name!r}: {field.type} is no type of a JSON value")
    return found


def of_arrow(type: Any) -> ColumnType | None:
    """Return a type of pyarrow as ours; None when no JSON value has it."""
    types = pyarrow().types
    if types.is_struct(type):
        fields = {field.name: of_arrow(field.type) for field in type}
        return None if None in fields.values() else {"struct": fields}
    if types.is_list(type) or types.is_large_list(type):
        of = of_arrow(type.value_type)
        return None if of is None else {"list": of}
    name = {"double": "float64", "float": "float32", "large_string": "string"}.get(str(type), str(type))
    return name if name in SCALARS and name not in {"json", "decimal", "digits"} else None


def arrow_schema(columns: Mapping[str, ColumnType]) -> Any:
    """Return the schema of pyarrow of some columns."""
    pa = pyarrow()
    return pa.schema([_field(name, type) for name, type in columns.items()])


def _field(name: str, type: ColumnType) -> Any:
    pa = pyarrow()
    return pa.field(name, _arrow_type(type), metadata=JSON_MARK if type == "json" else None)


def _arrow_type(type: ColumnType) -> Any:
    pa = pyarrow()
    if isinstance(type, dict):
        if "list" in type:
            return pa.list_(_arrow_type(type["list"]))
        return pa.struct([_field(name, each) for name, each in type["struct"].items()])
    if type in {"json", "digits"}:
        return pa.string()
    if type == "decimal":
        return pa.decimal128(38, 0)
    return {"float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_()}.get(type) or pa.type_for_alias(type)


def found_types(rows: Sequence[Mapping[str, Any]]) -> dict[str, ColumnType] | None:
    """Return the types of columns as pyarrow finds them; None when no type holds all values of one."""
    pa = pyarrow()
    try:
        found = of_arrow(pa.array(rows).type) if rows else {"struct": {}}
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError):
        return None
    return found["struct"] if isinstance(found, dict) and "struct" in found else None


def types_in(rows: Sequence[Mapping[str, Any]], known: dict[str, Any], mixed: Any) -> dict[str, Any]:
    """Return the columns that hold what is known and what is in some rows."""
    found = found_types(rows)
    if found is not None:
        return wider_fields(known, found, mixed)
    for row in rows:
        known = wider_fields(known, {name: type_of(value) for name, value in row.items()}, mixed)
    return known


class Batches:
    """Turns rows into Arrow batches.

    Args:
        columns: the columns.
    """

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._pa = pyarrow()
        self.schema = arrow_schema(columns)
        self._columns = dict(columns)
        self._struct = self._pa.struct(list(self.schema))
        self._is_plain = not any(map(holds_json, columns.values()))

    def of(self, rows: Sequence[Mapping[str, Any]], failed: Failed) -> Any:
        """Return a batch of the rows that fit, in order; `failed` is told of the others."""
        if self._is_plain:
            found = found_types(rows)
            if found is not None and covers({"struct": self._columns}, {"struct": found}):
                batch = self._made(rows)
                if batch is not None:
                    return batch
        good: list[dict[str, Any]] = []
        numbers: list[int] = []
        for number, row in enumerate(rows):
            try:
                good.append(fitted_row(row, self._columns))
                numbers.append(number)
            except MisfitError as misfit:
                failed(number, misfit)
        batch = self._made(good)
        return batch if batch is not None else self._each(good, numbers, failed)

    def _made(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        pa = self._pa
        try:
            array = pa.array(rows, type=self._struct)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return None
        if not len(self.schema):
            return pa.record_batch([], schema=self.schema)
        return pa.RecordBatch.from_arrays(array.flatten(), schema=self.schema)

    def _each(self, rows: list[dict[str, Any]], numbers: list[int], failed: Failed) -> Any:
        """Return a batch of rows that pyarrow takes one by one: what it refuses, no check here has seen."""
        pa = self._pa
        good = []
        for number, row in zip(numbers, rows, strict=True):
            try:
                pa.array([row], type=self._struct)
                good.append(row)
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                failed(number, MisfitError("", "row", str(error)))
        batch = self._made(good)
        assert batch is not None
        return batch
