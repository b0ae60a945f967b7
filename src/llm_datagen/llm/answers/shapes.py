"""What rows a schema makes: the columns, and whether an answer is one row or a list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import ConfigError

ITEMS = "items"
"""Endpoints want an object at the root of a schema: a list is asked for in this property of one."""
_WRAPPERS = {"schema": "name", "input_schema": "name", "parameters": "name", "json_schema": "type", "function": "type"}
_DEFINITIONS = ("$defs", "definitions")
_IN_DEFINITIONS = tuple(f"#/{name}/" for name in _DEFINITIONS)


@dataclass(frozen=True, slots=True)
class Shape:
    """What an answer of a schema becomes.

    Attributes:
        columns: the columns of each row.
        is_list: whether an answer is a list whose elements are rows.
        sent: the schema as endpoints want it: with an object at its root, which holds a list in `ITEMS`.
    """

    columns: tuple[str, ...]
    is_list: bool
    sent: dict[str, Any]


def unwrapped(schema: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Return the name and the schema of what providers take: ``{"name": …, "schema": …}`` and the like.

    Also what they call ``json_schema``, ``function``, ``parameters`` and ``input_schema``. Any other schema is returned
    as it is, with its title.
    """
    for inner, beside in _WRAPPERS.items():
        if isinstance(schema.get(inner), Mapping) and isinstance(schema.get(beside), str):
            name, found = unwrapped(schema[inner])
            return schema.get("name", name), found
    title = schema.get("title")
    return title if isinstance(title, str) else None, schema


def shape_of(schema: dict[str, Any], target: Callable[[str], Any]) -> Shape:
    """Return what rows `schema` makes.

    Args:
        schema: a schema that has been checked.
        target: returns what a ``$ref`` leads to.

    Raises:
        ConfigError: when it makes none, with what to write instead.
    """
    root = _resolved(schema, target)
    if _type_of(root) == "array":
        rows = _resolved(root.get("items", {}), target)
        columns = _columns(rows, target)
        if columns is None:
            raise ConfigError(
                "the elements of the list that output asks for are no objects with named properties, which would be "
                f"the columns of a row each: {_WRAP}"
            )
        if not all(reference.startswith(_IN_DEFINITIONS) for reference in references_in(schema)):
            raise ConfigError("the schema of a list refers to its own root: put what it refers to under $defs")
        shared = {name: schema[name] for name in _DEFINITIONS if name in schema}
        inner = {name: value for name, value in root.items() if name not in (*_DEFINITIONS, "$schema")}
        wrapper = {
            "type": "object",
            "properties": {ITEMS: {**inner, "type": "array"}},
            "required": [ITEMS],
            "additionalProperties": False,
        }
        return Shape(columns, True, wrapper | shared)
    columns = _columns(root, target)
    if columns is None:
        raise ConfigError(f"{_why(root)}: {_WRAP}")
    sent = schema
    if "$ref" in schema:  # endpoints want to see the object at the root
        siblings = {name: value for name, value in schema.items() if name != "$ref"}
        sent = {**siblings, **root, **{name: schema[name] for name in _DEFINITIONS if name in schema}}
    return Shape(columns, False, {**sent, "type": "object"})


def references_in(schema: Any) -> list[str]:
    """Return what every ``$ref`` in a schema says."""
    if isinstance(schema, list):
        return [reference for part in schema for reference in references_in(part)]
    if not isinstance(schema, Mapping):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [reference for part in schema.values() for reference in references_in(part)]


def _columns(schema: Any, target: Callable[[str], Any]) -> tuple[str, ...] | None:
    """Return the names of an object's properties; None when it is no object, or has none."""
    if not isinstance(schema, Mapping) or _type_of(schema) not in ("object", None):
        return None
    names = _names(schema, target, 0)
    return tuple(dict.fromkeys(names)) or None


def _names(schema: Any, target: Callable[[str], Any], depth: int) -> list[str]:
    schema = _resolved(schema, target)
    if not isinstance(schema, Mapping) or depth > 9:
        return []
    parts = schema.get("allOf", ())
    return [*schema.get("properties", ()), *(name for part in parts for name in _names(part, target, depth + 1))]


def _type_of(schema: Any) -> str | None:
    """Return the only type of a schema; ``"several"`` for more than one, None when it says none."""
    if not isinstance(schema, Mapping):
        return None
    kind = schema.get("type")
    if isinstance(kind, list):
        return kind[0] if len(kind) == 1 else "several"
    return kind or ("array" if "items" in schema and "properties" not in schema else None)


def _resolved(schema: Any, target: Callable[[str], Any]) -> Any:
    """Follow references: what stands beside one is kept, unless what it leads to says the same."""
    for _ in range(9):
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            return schema
        found = target(schema["$ref"])
        beside = {name: value for name, value in schema.items() if name not in ("$ref", *_DEFINITIONS)}
        schema = {**beside, **found} if isinstance(found, Mapping) else found
    raise ConfigError("the schema refers to itself and to nothing else")


def _why(root: Any) -> str:
    kind = _type_of(root)
    if not isinstance(root, Mapping):
        return "the schema of output allows anything"
    if kind == "several":
        return f"an answer may be {' or '.join(root['type'])}, and a row needs an object"
    if kind not in ("object", None):
        return f"an answer of type {kind} has no columns"
    for word in ("anyOf", "oneOf"):
        if word in root:
            return f"the schema of output has alternatives ({word}) at its root, so that its columns are not known"
    return "the object that output asks for names no properties (a map?), so that its columns are not known"


_WRAP = (
    "put it into one column, as {'type': 'object', 'properties': {'NAME': <this schema>}, 'required': ['NAME']}, "
    "or in pydantic a model with one field of this type"
)
