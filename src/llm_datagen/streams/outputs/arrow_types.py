"""Types of columns as pyarrow's, and back: of a schema that is given, of a file, and of what is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.inputs.arrow_plain import is_extension, is_list, is_text
from llm_datagen.streams.inputs.arrow_values import JSON_MARK
from llm_datagen.streams.outputs.column_types import SCALARS, ColumnType
from llm_datagen.streams.outputs.text_types import reader_of, text_type

_ALIASES = {
    **dict.fromkeys(("int", "integer"), "int64"),
    **dict.fromkeys(("float", "double"), "float64"),
    **dict.fromkeys(("str", "text", "large_string", "large_utf8", "utf8"), "string"),
    "boolean": "bool",
}

_TYPES = [
    *SCALARS,
    *("date", "time64[us]", "timestamp[us]", "timestamp[us, UTC]", "duration[us]", "decimal(10, 2)", "binary", "uuid"),
    "list<…> of one",
]
"""The types, as an error names them."""


def schema_given(schema: Any) -> dict[str, ColumnType]:
    """Return the columns of a schema as users give it: ``{column: type name}``, one of pyarrow, or that of a file.

    Raises:
        ConfigError: when a type is none that JSON values can be, or the file cannot be read.
    """
    if isinstance(schema, str | os.PathLike):
        schema = _schema_of_file(os.fspath(schema))
    if isinstance(schema, Mapping):
        return {str(name): _parsed(str(name), text) for name, text in schema.items()}
    if hasattr(schema, "names") and hasattr(schema, "field"):
        return {field.name: _of_field(field) for field in schema}
    raise ConfigError(
        "schema must be {column: type name}, a pyarrow schema, or the path of a Parquet or Arrow file, not "
        f"{type(schema).__name__}"
    )


_INSTEAD = "a Parquet or Arrow file whose columns have the types; or the types, such as {text: string, score: float64}"


def _schema_of_file(path: str) -> Any:
    pa = arrow()
    try:
        with pa.memory_map(path) as file:
            is_parquet = file.read(4) == b"PAR1"
            file.seek(0)
            if is_parquet:
                import pyarrow.parquet as pq

                return pq.read_schema(file)
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).schema
    except FileNotFoundError:
        raise ConfigError(f"schema: {path} does not exist; give the path of {_INSTEAD}") from None
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"schema: {path} cannot be read as Parquet or Arrow: {error}; give the path of {_INSTEAD}"
        ) from error


def _parsed(column: str, text: Any) -> ColumnType:
    match text:
        case {"list": of}:
            return {"list": _parsed(column, of)}
        case {"struct": dict() as fields}:
            return {"struct": {str(name): _parsed(f"{column}.{name}", of) for name, of in fields.items()}}
        case {"map": [of_key, of_value]}:
            return {"map": [_parsed(column, of_key), _parsed(column, of_value)]}
    name = str(text).strip()
    if name.startswith("list<") and name.endswith(">"):
        return {"list": _parsed(column, name[5:-1])}
    name = _ALIASES.get(name.lower(), name)
    if name in SCALARS:
        return name
    try:
        found = text_type(name)
    except ValueError as error:
        raise ConfigError(f"schema: column {column!r}: {text!r} is no type: {error}") from None
    if found is None:
        raise ConfigError(
            f"schema: column {column!r}: {text!r} is no type of a JSON value; {did_you_mean(name, _TYPES)}"
        )
    return found


def _of_field(field: Any) -> ColumnType:
    found = _found_of(field)
    if found is None:
        raise ConfigError(f"schema: column {field.name!r}: {field.type} is no type of a JSON value")
    return found


def _found_of(field: Any) -> ColumnType | None:
    return "json" if (field.metadata or {}).items() >= JSON_MARK.items() else of_arrow(field.type)


def of_arrow(type: Any) -> ColumnType | None:
    """Return a type of pyarrow as ours; None when no JSON value has it.

    Dictionaries are what they hold, and text and lists with long offsets, or of views, are plain ones.
    """
    pa = arrow()
    types = pa.types
    if types.is_struct(type):
        fields = {field.name: _found_of(field) for field in type}
        return None if None in fields.values() else {"struct": fields}
    if types.is_map(type):
        pair = [of_arrow(type.key_type), _found_of(type.item_field)]
        return None if None in pair else {"map": pair}
    if is_list(type):
        of = _found_of(type.value_field)
        return None if of is None else {"list": of}
    if types.is_dictionary(type) or types.is_run_end_encoded(type):
        return of_arrow(type.value_type)
    if is_extension(type):
        return {"arrow.uuid": "uuid", "arrow.json": "json", "arrow.bool8": "bool"}.get(type.extension_name)
    name = {"double": "float64", "float": "float32"}.get(str(type), "string" if is_text(type) else str(type))
    if name in SCALARS and name not in {"json", "decimal", "digits"}:
        return name
    return text_type({"binary_view": "binary"}.get(name, name))


def arrow_schema(columns: Mapping[str, ColumnType]) -> Any:
    """Return the schema of pyarrow of some columns."""
    pa = arrow()
    return pa.schema([_field(name, type) for name, type in columns.items()])


def _field(name: str, type: ColumnType) -> Any:
    pa = arrow()
    return pa.field(name, _arrow_type(type), metadata=JSON_MARK if type == "json" else None)


def _arrow_type(type: ColumnType) -> Any:
    pa = arrow()
    if isinstance(type, dict):
        if "list" in type:
            return pa.list_(_field("item", type["list"]))
        if "map" in type:
            of_key, of_value = type["map"]
            return pa.map_(_arrow_type(of_key), _field("value", of_value))
        return pa.struct([_field(name, each) for name, each in type["struct"].items()])
    if type in {"json", "digits"}:
        return pa.string()
    if type == "decimal":
        return pa.decimal128(38, 0)
    if reader_of(type) is not None:
        return _arrow_text_type(type)
    return {"float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_()}.get(type) or pa.type_for_alias(type)


def _arrow_text_type(type: str) -> Any:
    pa = arrow()
    kind, _, rest = type.rstrip("])").replace("(", "[").partition("[")
    if kind == "timestamp":
        unit, _, zone = rest.partition(", tz=")
        return pa.timestamp(unit, zone or None)
    if kind.startswith("decimal"):
        return getattr(pa, kind)(*map(int, rest.split(",")))
    if kind == "fixed_size_binary":
        return pa.binary(int(rest))
    if kind in {"time32", "time64", "duration"}:
        return getattr(pa, kind)(rest)
    return getattr(pa, kind)()


def stored_type(type: ColumnType) -> ColumnType:
    """Return a type without extensions, of which pyarrow makes no values within others."""
    if isinstance(type, str):
        return "fixed_size_binary[16]" if type == "uuid" else type
    if "list" in type:
        return {"list": stored_type(type["list"])}
    if "map" in type:
        return {"map": list(map(stored_type, type["map"]))}
    return {"struct": {name: stored_type(of) for name, of in type["struct"].items()}}
