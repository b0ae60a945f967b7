"""Values of Arrow that Python has and JSON has not, as JSON: bytes, maps, UUIDs, JSON text, tensors."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.formats.json_text import loads_exactly
from llm_datagen.streams.inputs.arrow_plain import is_bytes, is_extension, is_list, is_text

Convert = Callable[[Any], Any]

JSON_MARK = {b"llm_datagen": b"json"}
"""The metadata of a column in which exports keep values as JSON text."""


def value_converter(kind: Any, field: Any = None) -> Convert | None:
    """Return what makes of a value, as Python has it, one that JSON has; None when each is one already.

    Args:
        kind: the type of the values.
        field: the field they are of, whose metadata may say that its text is JSON.
    """
    convert = _from_json if _is_marked(field) else _converter(kind)
    return None if convert is None else lambda value: None if value is None else convert(value)


def holds_json(field: Any) -> bool:
    """Return whether a field holds values as JSON text, at any depth."""
    kind = field.type
    if is_extension(kind):
        return bool(kind.extension_name == "arrow.json")
    if _is_marked(field):
        return True
    return any(holds_json(kind.field(number)) for number in range(kind.num_fields))


def _is_marked(field: Any) -> bool:
    return field is not None and is_text(field.type) and (field.metadata or {}).items() >= JSON_MARK.items()


def _converter(kind: Any) -> Convert | None:
    types = arrow().types
    if is_extension(kind):
        return _of_extension(kind)
    if is_bytes(kind):
        return lambda value: base64.b64encode(value).decode()
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _converter(kind.value_type)
    if types.is_map(kind):
        return _of_map(kind)
    if is_list(kind):
        inner = value_converter(kind.value_type, kind.value_field)
        return None if inner is None else lambda values: [inner(value) for value in values]
    if types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        found = {each.name: inner for each in fields if (inner := value_converter(each.type, each)) is not None}
        return (lambda row: row | {name: make(row[name]) for name, make in found.items()}) if found else None
    return None


def _of_extension(kind: Any) -> Convert | None:
    match kind.extension_name:
        case "arrow.uuid":
            return lambda value: str(UUID(bytes=value))
        case "arrow.json":
            return _from_json
        case "arrow.fixed_shape_tensor":
            inner = value_converter(kind.value_type)
            return lambda values: _shaped(values if inner is None else list(map(inner, values)), kind.shape)
        case "arrow.bool8":
            return None
    return _converter(kind.storage_type)


def _of_map(kind: Any) -> Convert:
    of_key = value_converter(kind.key_type) or _same
    of_value = value_converter(kind.item_type, kind.item_field) or _same
    if not is_text(kind.key_type):
        return lambda pairs: [[of_key(key), of_value(value)] for key, value in pairs]

    def as_object(pairs: Any) -> dict[str, Any]:
        found = {of_key(key): of_value(value) for key, value in pairs}
        if len(found) < len(pairs):
            raise ValueError("a map has a key twice, and an object cannot")
        return found

    return as_object


def _from_json(text: str) -> Any:
    try:
        return loads_exactly(text.encode())
    except ValueError as error:
        raise ValueError(f"it is said to be JSON, and is not: {error}") from None


def _shaped(values: Sequence[Any], shape: Sequence[int]) -> Any:
    """Return the values of a tensor, row by row, as nested lists."""
    if len(shape) < 2:
        return list(values)
    size = math.prod(shape[1:])
    return [_shaped(values[at * size : (at + 1) * size], shape[1:]) for at in range(shape[0])]


def _same(value: Any) -> Any:
    return value
