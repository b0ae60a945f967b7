"""JSON schemas, checked: the part of the standard that endpoints know how to hold a model to.

Endpoints differ in how much of a schema they enforce, and some ignore it, so every answer is checked here. A
schema that uses more than is checked is refused when it is given, rather than taken for a promise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from llm_datagen.errors import ConfigError

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minLength": ("string", lambda value, limit: len(value) >= limit),
    "maxLength": ("string", lambda value, limit: len(value) <= limit),
    "pattern": ("string", lambda value, limit: re.search(limit, value) is not None),
    "minimum": ("number", lambda value, limit: value >= limit),
    "maximum": ("number", lambda value, limit: value <= limit),
    "minItems": ("array", lambda value, limit: len(value) >= limit),
    "maxItems": ("array", lambda value, limit: len(value) <= limit),
}
_NOTES = {"title", "description", "default", "examples", "$defs", "$schema"}
_STRUCTURE = {"type", "enum", "const", "anyOf", "$ref", "properties", "required", "additionalProperties", "items"}


def check_schema(schema: Any) -> None:
    """Check that `schema` is well formed, and uses only what `violation` checks.

    Raises:
        ConfigError: naming the keyword and where it is.
    """
    definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
    _check(schema, "$", definitions)
    for name, part in _parts(definitions, "$defs", "$"):
        _check(part, f"$defs.{name}", definitions)


def _check(schema: Any, path: str, definitions: Mapping[str, Any]) -> None:
    if not isinstance(schema, Mapping):
        raise ConfigError(f"the schema at {path} must be an object, not {schema!r}")
    for key, value in schema.items():
        if key.startswith("x-"):  # a note to the endpoint, which forbids nothing
            continue
        if key not in _NOTES | _STRUCTURE | _LIMITS.keys():
            raise ConfigError(
                f"the schema at {path} uses {key!r}, which is not checked here; leave it out, or give a pydantic "
                "model, which checks its own answers"
            )
        if not _is_well_formed(key, value, definitions):
            raise ConfigError(f"the schema at {path} has a {key} that is not supported: {value!r}")
        if key == "items":
            _check(value, f"{path}[]", definitions)
        elif key == "anyOf":
            for part in value:
                _check(part, path, definitions)
        elif key == "properties":
            for name, part in _parts(value, key, path):
                _check(part, f"{path}.{name}", definitions)


def _is_well_formed(key: str, value: Any, definitions: Mapping[str, Any]) -> bool:
    match key:
        case "type":
            return all(name in _TYPES for name in _as_list(value))
        case "enum" | "anyOf" | "required":
            return isinstance(value, list) and bool(value or key == "required")
        case "additionalProperties":
            return isinstance(value, bool)
        case "$ref":
            return isinstance(value, str) and value.removeprefix("#/$defs/") in definitions
        case "pattern":
            try:
                re.compile(value)
            except (re.error, TypeError):
                return False
            return True
        case _ if key in _LIMITS:
            return _TYPES["number"](value)
        case _:
            return True


def _parts(value: Any, key: str, path: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} of the schema at {path} must be an object, not {value!r}")
    return list(value.items())


def violation(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], path: str = "$") -> str | None:
    """Return how `value` breaks `schema` (where and which rule, never the value), or None when it does not.

    Args:
        value: a parsed JSON value.
        schema: a schema that passed `check_schema`.
        root: the whole schema, whose ``$defs`` are referred to.
        path: where the value is, for the message.
    """
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        problem = violation(value, root["$defs"][name], root, path)
        if problem:
            return problem
    if "type" in schema and not any(_TYPES[name](value) for name in _as_list(schema["type"])):
        return f"{path} is not of type {schema['type']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{path} is not {schema['const']!r}"
    if "anyOf" in schema and all(violation(value, part, root, path) for part in schema["anyOf"]):
        return f"{path} matches none of the alternatives"
    for keyword, (kind, holds) in _LIMITS.items():
        if keyword in schema and _TYPES[kind](value) and not holds(value, schema[keyword]):
            return f"{path} breaks {keyword} {schema[keyword]}"
    if isinstance(value, dict):
        return _object_violation(value, schema, root, path)
    if isinstance(value, list) and "items" in schema:
        problems = (violation(part, schema["items"], root, f"{path}[{k}]") for k, part in enumerate(value))
        return next(filter(None, problems), None)
    return None


def _object_violation(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], path: str
) -> str | None:
    properties = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{path} lacks {', '.join(missing)}"
    unknown = [name for name in value if name not in properties]
    if unknown and schema.get("additionalProperties") is False:
        return f"{path} has {len(unknown)} properties that the schema does not name"
    problems = (
        violation(value[name], properties[name], root, f"{path}.{name}") for name in properties if name in value
    )
    return next(filter(None, problems), None)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
