"""What an answer must look like, and the columns that it becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ValidationError

from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.jsonschemas import JsonSchema
from llm_datagen.llm.imports import imported, is_import_path


class AnswerFormat(Protocol):
    """Turns the text of an answer into columns."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that an answer fills."""

    def request_fields(self) -> dict[str, Any]:
        """Return what the request says about the format."""

    def parse(self, text: str) -> dict[str, Any]:
        """Return the columns.

        Raises:
            ValueError: saying what is wrong, without the answer itself.
        """


def answer_format(output: Any) -> AnswerFormat:
    """Return the format that `output` stands for.

    Args:
        output: a column name, a JSON schema (dict), a pydantic model class, or where to import one of the last two
            from, as ``"module:Name"``.

    Raises:
        ConfigError: naming what is wrong with `output`.
    """
    if is_import_path(output):
        output = imported(output, what="output")
    if isinstance(output, str):
        return TextFormat(output)
    if isinstance(output, type) and issubclass(output, BaseModel):
        return ModelFormat(output)
    if isinstance(output, Mapping):
        return SchemaFormat(output)
    raise ConfigError(
        f"output must be a column name, a JSON schema, a pydantic model class or 'module:Name', not {output!r}"
    )


class TextFormat:
    """The answer as it is, in one column."""

    def __init__(self, column: str) -> None:
        self.columns = _checked_columns([column])

    def request_fields(self) -> dict[str, Any]:
        """Return what the request says about the format: nothing."""
        return {}

    def parse(self, text: str) -> dict[str, Any]:
        """Return the column.

        Raises:
            ValueError: when the answer is blank.
        """
        if not text.strip():
            raise ValueError("it is empty")
        return {self.columns[0]: text}


class SchemaFormat:
    """An object that keeps to a JSON schema; its properties become columns."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = JsonSchema(schema)
        if schema.get("type") != "object" or not schema.get("properties"):
            raise ConfigError(
                "the schema of an output must be of type 'object' and have properties: they are the columns"
            )
        self.columns = _checked_columns(schema["properties"])

    def request_fields(self) -> dict[str, Any]:
        """Return the ``response_format`` of the request."""
        return _response_format(str(self._schema.schema.get("title", "answer")), self._schema.schema)

    def parse(self, text: str) -> dict[str, Any]:
        """Return the columns.

        Raises:
            ValueError: when the answer is not JSON, or breaks the schema.
        """
        answer = _json(text)
        problem = self._schema.violation(answer)
        if problem:
            raise ValueError(f"it does not match the schema: {problem}")
        return _public(answer)


class ModelFormat:
    """An object that a pydantic model accepts; its fields become columns."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        self._schema = closed(model.model_json_schema())
        if not self._schema.get("properties"):
            raise ConfigError(f"{model.__name__} has no fields at its top level: they are the columns")
        self.columns = _checked_columns(self._schema["properties"])

    def request_fields(self) -> dict[str, Any]:
        """Return the ``response_format`` of the request."""
        return _response_format(self._model.__name__, self._schema)

    def parse(self, text: str) -> dict[str, Any]:
        """Return the columns, as plain JSON data.

        Raises:
            ValueError: when the answer is not JSON, or the model refuses it.
        """
        try:
            return _public(self._model.model_validate(_json(text)).model_dump(mode="json", by_alias=True))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, part['loc'])) or '$'}: {part['type']}"
                for part in error.errors(include_url=False, include_context=False, include_input=False)
            )
            raise ValueError(f"{self._model.__name__} does not accept it: {problems}") from None


def closed(schema: Any) -> Any:
    """Return `schema` with every object closed: all properties required and no others allowed.

    Endpoints with ``strict`` ask for this, and pydantic leaves it out.
    """
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result["required"] = list(schema["properties"])
        result["additionalProperties"] = False
    return result


def _response_format(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    plain_name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": plain_name, "schema": schema, "strict": True},
        }
    }


def _json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from None


def _public(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may become columns: a property that was not asked for must not replace the row's ``_i``."""
    return {name: value for name, value in answer.items() if not name.startswith("_")}


def _checked_columns(names: Any) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str) or not name or name.startswith("_"):
            raise ConfigError(f"an output column must have a name that does not start with '_', not {name!r}")
    return tuple(names)
