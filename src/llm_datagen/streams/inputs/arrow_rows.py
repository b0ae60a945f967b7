"""Record batches of Arrow as rows: what each type becomes in JSON, without loss, or a refusal by name.

| type | in a row |
|---|---|
| numbers, text, booleans, null | as they are; a float that is NaN or infinite is dealt with by ``data_config nan=`` |
| dates, times, timestamps | text in ISO 8601, with the offset of the zone; fractions as many as the unit has |
| decimals | text with all digits |
| bytes | text in base64 |
| dictionaries | their values |
| lists, structs | lists, objects |
| maps | objects where keys are text; else lists of ``[key, value]`` |
"""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from llm_datagen.errors import ConfigError, StreamError

Convert = Callable[[Any], Any]

_BATCH_ROWS = 1024
_BATCH_BYTES = 4 << 20


def batch_rows(size: int, rows: int) -> int:
    """Return how many rows to make at once, of some that take `size` bytes: about 4 MiB, and 1,024 rows at most."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(1, size)))


def arrow(module: str = "pyarrow") -> Any:
    """Return a module of pyarrow, which is imported when it is needed.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError("Parquet and Arrow files need pyarrow: pip install 'llm-datagen[parquet]'") from None


def chosen(path: str, schema: Any, columns: Sequence[str] | None) -> list[str]:
    """Return the columns to read.

    Raises:
        StreamError: when one is not there.
    """
    if columns is None:
        return list(schema.names)
    if missing := [name for name in columns if name not in schema.names]:
        raise StreamError(f"{path} has no column {missing[0]!r}; it has {', '.join(map(repr, schema.names))}")
    return list(columns)


class RowMaker:
    """Makes lines of JSON of record batches of one schema.

    Args:
        schema: the schema.
        path: the file, for messages.

    Raises:
        StreamError: when a column has a type that rows cannot hold, naming both.
    """

    def __init__(self, schema: Any, path: str) -> None:
        self._pa = arrow()
        names = schema.names
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise StreamError(f"{path} has two columns {twice[0]!r}, and a row has one; rename one of them")
        self._schema = self._pa.schema([(field.name, self._plain(field.type, field.name, path)) for field in schema])
        self._is_cast = self._schema != schema.remove_metadata()
        self._converts = {
            field.name: convert for field in self._schema if (convert := self._convert(field.type)) is not None
        }
        self._floats = [number for number, field in enumerate(self._schema) if self._has_floats(field.type)]

    def lines(self, batch: Any) -> list[bytes]:
        """Return the rows of a batch.

        Raises:
            ValueError: when a value cannot be held, naming the column; or text is not UTF-8.
        """
        if self._is_cast:
            columns = [self._cast(column, field) for column, field in zip(batch.columns, self._schema, strict=True)]
            batch = self._pa.RecordBatch.from_arrays(columns, schema=self._schema)
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            return [self._careful_line(batch.slice(number, 1)) for number in range(batch.num_rows)]
        for name, convert in self._converts.items():
            for row in rows:
                row[name] = _named(name, convert, row[name])
        if any(self._is_odd(batch.column(number)) for number in self._floats):
            return [json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() for row in rows]
        return [orjson.dumps(row) for row in rows]

    def _careful_line(self, row: Any) -> bytes:
        """Return a batch of one row as a line; text that is not UTF-8 keeps its bytes, for the reader to refuse."""
        cells = {}
        for name, column in zip(self._schema.names, row.columns, strict=True):
            try:
                cells[name] = _named(name, self._converts.get(name, _same), column.to_pylist()[0])
            except UnicodeDecodeError as error:
                cells[name] = error.object.decode("utf-8", "surrogateescape")
        return json.dumps(cells, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")

    def _refuse_out_of_range(self, column: Any, kind: Any) -> None:
        """Refuse moments that no calendar has: of these, a cast makes a remark in the place of the text."""
        types = self._pa.types
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind):
            compute = arrow("pyarrow.compute")
            if compute.any(compute.starts_with(column, "<value out of range")).as_py():
                raise ValueError(f"a {kind} is out of the range of the calendar")
        elif types.is_struct(kind):
            for number, part in enumerate(column.flatten()):
                self._refuse_out_of_range(part, kind.field(number).type)
        elif types.is_map(kind):
            self._refuse_out_of_range(column.keys, kind.key_type)
            self._refuse_out_of_range(column.items, kind.item_type)
        elif types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            self._refuse_out_of_range(column.flatten(), kind.value_type)

    def _cast(self, column: Any, field: Any) -> Any:
        if column.type == field.type:
            return column
        try:
            cast = column.cast(field.type)
            self._refuse_out_of_range(cast, column.type)
        except (ValueError, self._pa.ArrowException) as error:
            raise ValueError(f"column {field.name!r}: {error}") from error
        return cast

    def _plain(self, kind: Any, name: str, path: str) -> Any:
        """Return the type that a column is cast to."""
        pa, types = self._pa, self._pa.types
        is_text = types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_decimal(kind)
        if is_text:
            return pa.string()
        if types.is_dictionary(kind):
            return self._plain(kind.value_type, name, path)
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            inner = self._plain(kind.value_type, name, path)
            return kind if inner == kind.value_type else pa.large_list(inner)
        if types.is_struct(kind):
            fields = [kind.field(number) for number in range(kind.num_fields)]
            return pa.struct([(field.name, self._plain(field.type, f"{name}.{field.name}", path)) for field in fields])
        if types.is_map(kind):
            return pa.map_(self._plain(kind.key_type, name, path), self._plain(kind.item_type, name, path))
        if self._is_simple(kind):
            return kind
        raise StreamError(
            f"{path}, column {name!r}: the type {kind} has no place in a row; leave the column out with "
            "?columns=…, or cast it first"
        )

    def _is_simple(self, kind: Any) -> bool:
        types = self._pa.types
        of_numbers = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
        return bool(of_numbers or self._is_text(kind) or self._is_bytes(kind))

    def _is_text(self, kind: Any) -> bool:
        types = self._pa.types
        return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))

    def _is_bytes(self, kind: Any) -> bool:
        types = self._pa.types
        is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
        return bool(is_bytes or types.is_binary_view(kind))

    def _has_floats(self, kind: Any) -> bool:
        if self._pa.types.is_floating(kind):
            return True
        if self._pa.types.is_map(kind):
            return self._has_floats(kind.key_type) or self._has_floats(kind.item_type)
        return any(self._has_floats(kind.field(number).type) for number in range(kind.num_fields))

    def _is_odd(self, column: Any) -> bool:
        """Return whether a column holds NaN or an infinity, at any depth."""
        pa, types = self._pa, self._pa.types
        kind = column.type
        if types.is_floating(kind):
            finite = arrow("pyarrow.compute").is_finite(column)
            return arrow("pyarrow.compute").all(finite).as_py() is False
        if types.is_struct(kind):
            return any(self._is_odd(part) for part in column.flatten() if self._has_floats(part.type))
        if types.is_map(kind):
            return any(self._is_odd(part) for part in (column.keys, column.items) if self._has_floats(part.type))
        assert isinstance(column, pa.Array)
        return self._is_odd(column.flatten())

    def _convert(self, kind: Any) -> Convert | None:
        """Return what makes of a value, as Python has it, one that JSON has; None when it is one."""
        types = self._pa.types
        if self._is_bytes(kind):
            return _unless_null(lambda value: base64.b64encode(value).decode())
        if types.is_map(kind):
            return _unless_null(self._convert_map(kind))
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            inner = self._convert(kind.value_type)
            return None if inner is None else _unless_null(lambda values: [inner(value) for value in values])
        if types.is_struct(kind):
            fields = (kind.field(number) for number in range(kind.num_fields))
            found = {field.name: of_field for field in fields if (of_field := self._convert(field.type)) is not None}
            return (
                _unless_null(lambda row: row | {name: each(row[name]) for name, each in found.items()})
                if found
                else None
            )
        return None

    def _convert_map(self, kind: Any) -> Convert:
        of_key = self._convert(kind.key_type) or _same
        of_value = self._convert(kind.item_type) or _same
        if not self._is_text(kind.key_type):
            return lambda pairs: [[of_key(key), of_value(value)] for key, value in pairs]

        def as_object(pairs: Any) -> dict[str, Any]:
            found = {of_key(key): of_value(value) for key, value in pairs}
            if len(found) < len(pairs):
                raise ValueError("a map has a key twice, and an object cannot")
            return found

        return as_object


def _same(value: Any) -> Any:
    return value


def _unless_null(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _named(name: str, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error
