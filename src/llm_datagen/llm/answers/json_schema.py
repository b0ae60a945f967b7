"""JSON schemas: checked when they are given, and answers against them (by the library jsonschema).

Endpoints differ in how much of a schema they enforce, and some ignore it, so every answer is checked here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.validators import validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from llm_datagen.errors import ConfigError
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

_RULE_CHARS = 200


class JsonSchema:
    """A schema of any draft that jsonschema knows; without ``$schema`` of 2020-12. Nothing is fetched.

    Args:
        schema: the schema.

    Raises:
        ConfigError: when it is no valid schema, or refers to one elsewhere.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            self.schema: dict[str, Any] = loads_exactly(dumps(dict(schema)))
        except TypeError as error:
            raise ConfigError(f"the schema must be JSON data: {error}") from error
        kind = validator_for(self.schema, default=Draft202012Validator)
        try:
            kind.check_schema(self.schema)
        except SchemaError as error:
            raise ConfigError(f"the schema is not valid at {error.json_path}: {error.message}") from error
        resource = Resource.from_contents(self.schema, default_specification=DRAFT202012)
        registry = Registry().with_resource(resource.id() or "", resource)
        self._resolver = registry.resolver(resource.id() or "")
        _check_references(resource, self._resolver)
        self._validator = kind(self.schema, registry=registry, format_checker=kind.FORMAT_CHECKER)

    def target(self, reference: str) -> Any:
        """Return what a ``$ref`` at the root leads to."""
        return self._resolver.lookup(reference).contents

    def violation(self, value: Any) -> str | None:
        """Return how `value` breaks the schema: where and which rule, never the value; None when it does not."""
        try:
            error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            return "$ is nested too deeply"
        except OverflowError:  # of the library, which divides for multipleOf
            return "$ holds a number that is too large"
        return None if error is None else _described(error)


def _check_references(resource: Resource[Any], resolver: Any) -> None:
    if isinstance(resource.contents, Mapping):
        for keyword in ("$ref", "$dynamicRef"):
            reference = resource.contents.get(keyword)
            try:
                if isinstance(reference, str):
                    resolver.lookup(reference)
            except Unresolvable as error:
                raise ConfigError(
                    f"the schema refers to {reference!r}, which is not in it: put it under $defs; nothing is fetched"
                ) from error
    for part in resource.subresources():
        _check_references(part, resolver.in_subresource(part))


def _described(error: ValidationError) -> str:
    path, rule = error.json_path, error.validator
    value: Any = error.validator_value
    instance: Any = error.instance
    schema: Any = error.schema
    match rule:
        case "type":
            return f"{path} is not of type {value if isinstance(value, str) else ' or '.join(value)}"
        case "enum":
            return f"{path} is none of {_short(value)}"
        case "const":
            return f"{path} is not {_short(value)}"
        case "required":
            return f"{path} lacks {', '.join(name for name in value if name not in instance)}"
        case "additionalProperties" if value is False:
            unknown = set(instance) - set(schema.get("properties", ()))
            return f"{path} has {len(unknown)} properties that the schema does not name"
        case "anyOf" | "oneOf":
            return f"{path} matches none, or more than one, of the alternatives of {rule}"
        case _:
            return f"{path} breaks {rule} {_short(value)}"


def _short(rule: Any) -> str:
    text = dumps(rule).decode()
    return text if len(text) <= _RULE_CHARS else text[:_RULE_CHARS] + "…"
