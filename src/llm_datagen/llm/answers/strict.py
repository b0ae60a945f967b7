"""Strict schemas: the part of JSON Schema that endpoints can hold a model to, token by token.

``strict: true`` is an error at an endpoint when the schema is no such one, so it is said only of one that is. What can
be written otherwise without allowing more is; an answer is always checked against the schema as it was given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.answers.shapes import references_in

_MOST_PROPERTIES = 5000
_MOST_LEVELS = 10
_NOTES = ("default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "discriminator")
"""Keywords that allow or forbid nothing."""
_KNOWN = {
    "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "description", "title",
    "$defs", "definitions", "minItems", "maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "pattern", "format",
}  # fmt: skip
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}


class _NotStrictError(Exception):
    """Raised when a schema cannot be written so."""


def strict_schema(schema: Mapping[str, Any], *, asks_for_all: bool = False) -> dict[str, Any] | None:
    """Return `schema` in the form that strict endpoints take; None when it has none.

    Objects that do not say whether they are open are closed: what else a model might add, nobody asked for.

    Args:
        schema: with an object at its root.
        asks_for_all: whether properties that may be left out are asked for all the same.
    """
    maker = _StrictMaker(schema, asks_for_all)
    try:
        made: dict[str, Any] = maker.strict(schema, 0)
    except (_NotStrictError, RecursionError):
        return None
    is_object = made.get("type") == "object" and "anyOf" not in made
    return made if is_object and maker.properties <= _MOST_PROPERTIES else None


class _StrictMaker:
    def __init__(self, root: Mapping[str, Any], asks_for_all: bool) -> None:
        self._root = root
        self._asks_for_all = asks_for_all
        self.properties = 0

    def strict(self, schema: Any, level: int) -> dict[str, Any]:
        if not isinstance(schema, Mapping) or level > _MOST_LEVELS:
            raise _NotStrictError
        made = {name: value for name, value in schema.items() if name not in _NOTES}
        if "allOf" in made and len(made["allOf"]) == 1:
            made = self._joined(made, made.pop("allOf")[0])
        if "$ref" in made:
            return self._reference(made, level)
        if "oneOf" in made and "anyOf" not in made and _are_disjoint([self._target(each) for each in made["oneOf"]]):
            made["anyOf"] = made.pop("oneOf")
        if not made.keys() <= _KNOWN or made.get("format", "date") not in _FORMATS:
            raise _NotStrictError
        for name in ("$defs", "definitions"):
            if name in made:
                made[name] = {key: self.strict(each, 1) for key, each in made[name].items()}
        return self._alternatives(made, level) if "anyOf" in made else self._typed(made, level)

    def _joined(self, beside: dict[str, Any], part: Any) -> dict[str, Any]:
        if not isinstance(part, Mapping) or beside.keys() & part.keys() - {"description", "title"}:
            raise _NotStrictError
        return {**part, **beside}

    def _reference(self, made: dict[str, Any], level: int) -> dict[str, Any]:
        """Endpoints allow nothing beside a reference: a description goes into a copy of what it leads to."""
        reference = made.pop("$ref")
        self._target({"$ref": reference})
        if not made.keys() <= {"title", "description"}:
            raise _NotStrictError
        if "description" not in made or self._is_recursive(reference):
            return {"$ref": reference}
        return {**self.strict(self._target({"$ref": reference}), level), **made}

    def _alternatives(self, made: dict[str, Any], level: int) -> dict[str, Any]:
        if made.keys() & {"properties", "items", "type", "enum", "const"}:
            raise _NotStrictError
        return {**made, "anyOf": [self.strict(each, level) for each in made["anyOf"]]}

    def _typed(self, made: dict[str, Any], level: int) -> dict[str, Any]:
        kinds = made.get("type")
        if isinstance(kinds, list) and len(kinds) == 1:
            made["type"] = kinds = kinds[0]
        if kinds is None and ("enum" in made or "const" in made):
            return made
        named = set(kinds) if isinstance(kinds, list) else {kinds}
        if not named <= _TYPES:
            raise _NotStrictError
        if "object" in named:
            self._close(made, level)
        if "array" in named:
            made["items"] = self.strict(made.get("items"), level + 1)
        return made

    def _close(self, made: dict[str, Any], level: int) -> None:
        properties = made.get("properties")
        if not properties or made.get("additionalProperties", False) is not False:
            raise _NotStrictError
        if not self._asks_for_all and set(made.get("required", ())) != set(properties):
            raise _NotStrictError
        self.properties += len(properties)
        made["properties"] = {name: self.strict(each, level + 1) for name, each in properties.items()}
        made["required"] = list(properties)
        made["additionalProperties"] = False

    def _target(self, schema: Any) -> Any:
        """Return what a reference leads to, if it is one: to the root, or to a definition."""
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            return schema
        if schema["$ref"] == "#":
            return self._root
        parts = schema["$ref"].split("/")
        if len(parts) != 3 or parts[0] != "#" or parts[1] not in ("$defs", "definitions"):
            raise _NotStrictError
        definitions = self._root.get(parts[1])
        if not isinstance(definitions, Mapping) or parts[2] not in definitions:
            raise _NotStrictError
        return definitions[parts[2]]

    def _is_recursive(self, reference: str) -> bool:
        seen: set[str] = set()
        waiting = [reference]
        while waiting:
            for name in references_in(self._target({"$ref": waiting.pop()})):
                if name == reference:
                    return True
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return False


def _are_disjoint(branches: list[Any]) -> bool:
    """Return whether no value can be of two branches: by their types, or by a property that is another constant."""
    if not all(isinstance(each, Mapping) for each in branches):
        return False
    kinds = [each.get("type") for each in branches]
    plain = all(isinstance(kind, str) for kind in kinds) and not {"integer", "number"} <= set(kinds)
    if plain and len(set(kinds)) == len(kinds):
        return True
    marks = [
        {
            (name, json.dumps(part["const"]))
            for name, part in each.get("properties", {}).items()
            if isinstance(part, Mapping) and "const" in part and name in each.get("required", ())
        }
        for each in branches
    ]
    shared = set.intersection(*({name for name, _ in each} for each in marks)) if marks else set()
    return any(len({value for each in marks for own, value in each if own == name}) == len(branches) for name in shared)
