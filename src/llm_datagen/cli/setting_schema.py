"""What the JSON Schema of pipeline files says of a setting: its type, its bounds and its meaning, from its table."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from llm_datagen.config import Setting
from llm_datagen.errors import ConfigError

Schema = dict[str, Any]


class PlainSchema(GenerateJsonSchema):
    """JSON Schema without titles made of names, and without defaults that only mean "not said"."""

    def default_schema(self, schema: Any) -> Schema:
        """Return the schema of the value itself."""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: names say enough."""
        return False


def schema_of_type(hint: Any) -> Schema:
    """Return the schema of a type; of one that no file can have, one that takes everything."""
    try:
        schema = TypeAdapter(hint).json_schema(schema_generator=PlainSchema)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return {}
    return _simple(schema)


def _simple(schema: Schema) -> Schema:
    """Return a schema in which a path is a text, and an object of a class is a mapping of its fields and no others."""
    classes = schema.pop("$defs", {})
    if "properties" in schema:
        return _closed(schema)
    if "anyOf" not in schema:
        return schema
    options = [option for option in schema["anyOf"] if option.get("format") != "path"]
    if classes:  # a mapping has its fields, too
        options = [option for option in options if option.get("type") != "object"]
    options = [_closed(classes[option["$ref"].split("/")[-1]]) if "$ref" in option else option for option in options]
    return options[0] if len(options) == 1 else {**schema, "anyOf": options}


def _closed(schema: Schema) -> Schema:
    fields = {name: _simple(dict(each)) for name, each in schema["properties"].items()}
    kept = {key: value for key, value in schema.items() if key not in ("title", "description")}
    return {**kept, "properties": fields, "additionalProperties": False}


def schema_of_arguments(cls: type) -> Schema:
    """Return the schema of the arguments of a class as keys and values: their types, as far as these are known.

    Args:
        cls: a class whose arguments have types.
    """
    hints = get_type_hints(cls.__init__)  # type: ignore[misc]
    fields: Schema = {}
    required = []
    others: Schema | bool = False
    for name, parameter in inspect.signature(cls).parameters.items():
        schema = _known(schema_of_type(hints.get(name, Any)))
        if parameter.kind is parameter.VAR_KEYWORD:
            others = schema
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            fields[name] = schema
            if parameter.default is parameter.empty:
                required.append(name)
    needed = {"required": required} if required else {}
    return {"type": "object", "properties": fields, "additionalProperties": others, **needed}


def _known(schema: Any) -> Any:
    """Return a schema in which what is only named, and not there, takes everything."""
    if isinstance(schema, dict):
        return {} if "$ref" in schema else {key: _known(each) for key, each in schema.items()}
    return [_known(each) for each in schema] if isinstance(schema, list) else schema


def schema_of(name: str, setting: Setting, hint: Any) -> Schema:
    """Return the schema of a setting.

    Args:
        name: its name.
        setting: its entry in the table.
        hint: its type.
    """
    schema = schema_of_type(hint)
    options = [_bounded(name, setting, option) for option in schema.get("anyOf", [schema])]
    if {"type": "null"} not in options and options != [{}] and _takes(name, setting, None):
        options.append({"type": "null"})
    schema = {"anyOf": options} if len(options) > 1 else options[0]
    text = f"{setting.text} ({setting.unit})" if setting.unit else setting.text
    schema["description"] = text
    if isinstance(setting.default, str | int | float | bool):
        schema["default"] = setting.default
    return schema


def _bounded(name: str, setting: Setting, schema: Schema) -> Schema:
    """Return a schema with the least value that the check of a setting takes, if it is as small as that."""
    kind = schema.get("type")
    if kind == "string" and "enum" not in schema and not _takes(name, setting, ""):
        return {**schema, "minLength": 1}
    if kind not in ("integer", "number") or _takes(name, setting, -1):
        return schema
    if _takes(name, setting, 0):
        return {**schema, "minimum": 0}
    return {**schema, "minimum": 1} if kind == "integer" else {**schema, "exclusiveMinimum": 0}


def _takes(name: str, setting: Setting, value: Any) -> bool:
    """Return whether the check of a setting takes a value."""
    try:
        setting.check(name, value)
    except ConfigError:
        return False
    return True
