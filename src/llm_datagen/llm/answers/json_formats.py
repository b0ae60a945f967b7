"""Answers in JSON: what they must look like, and the rows that they become. Imported by operators that ask for it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.columns import checked_columns
from llm_datagen.llm.answers.json_schema import JsonSchema
from llm_datagen.llm.answers.reading import read_json
from llm_datagen.llm.answers.shapes import ITEMS, Shape, shape_of, unwrapped
from llm_datagen.llm.answers.strict import strict_schema
from llm_datagen.llm.types import Parsed


class _JsonFormat(ABC):
    """What is common to answers in JSON."""

    def __init__(self, name: str, shape: Shape, *, lenient: bool, asks_for_all: bool) -> None:
        self.columns = checked_columns(shape.columns)
        self.is_list = shape.is_list
        self._lenient = lenient
        strict = strict_schema(shape.sent, asks_for_all=asks_for_all)
        self._response_format = {
            "type": "json_schema",
            "json_schema": {
                "name": re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "answer",
                "schema": shape.sent if strict is None else strict,
                "strict": strict is not None,
            },
        }

    def request_fields(self) -> dict[str, Any]:
        """Return the ``response_format`` of the request."""
        return {"response_format": self._response_format}

    def as_sent(self, answer: Any) -> Any:
        """Return an answer as the schema of the request has it: a list stands in an object."""
        return {ITEMS: answer} if self.is_list and isinstance(answer, list) else answer

    def parse(self, text: str) -> Parsed:
        """Return the rows.

        Raises:
            ValueError: when the answer is not JSON, or not to the schema.
        """
        value, is_repaired = read_json(text, lenient=self._lenient, wants=list if self.is_list else dict)
        if self.is_list and isinstance(value, dict) and value.keys() == {ITEMS}:
            value = value[ITEMS]
        found = self._checked(value)
        rows = found if self.is_list else [found]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError(f"it is no {'list of JSON objects' if self.is_list else 'JSON object'}")
        return Parsed([_public(row) for row in rows], is_repaired)

    @abstractmethod
    def _checked(self, value: Any) -> Any:
        """Return an answer that keeps to the schema, as columns are made of it; raise ValueError when it does not."""


class SchemaFormat(_JsonFormat):
    """An object, or a list of them, that keeps to a JSON schema; the properties become columns."""

    def __init__(self, schema: Mapping[str, Any], *, lenient: bool = True) -> None:
        name, schema = unwrapped(schema)
        self._schema = JsonSchema(schema)
        shape = shape_of(self._schema.schema, self._schema.target)
        super().__init__(name or "answer", shape, lenient=lenient, asks_for_all=False)

    def _checked(self, value: Any) -> Any:
        problem = self._schema.violation(value)
        if problem:
            raise ValueError(f"it does not match the schema: {problem}")
        return value


class ModelFormat(_JsonFormat):
    """An object, or a list of them, that a pydantic model accepts; its fields become columns."""

    def __init__(self, model: Any, *, lenient: bool = True) -> None:
        self._name = getattr(model, "__name__", None) or str(model)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(model)
            # What comes out may have other names than what goes in: aliases, computed fields.
            sent = JsonSchema(self._adapter.json_schema(mode="validation"))
            columns = JsonSchema(self._adapter.json_schema(mode="serialization"))
        except (PydanticUserError, NameError, TypeError) as error:
            raise ConfigError(
                "output must be a column name, a JSON schema, a pydantic model class (or a list of one, such as "
                f"list[Model]) or 'module:Name', not {model!r}: {str(error).splitlines()[0]}"
            ) from error
        shape = shape_of(sent.schema, sent.target)
        rows = shape_of(columns.schema, columns.target)
        super().__init__(self._name, Shape(rows.columns, shape.is_list, shape.sent), lenient=lenient, asks_for_all=True)

    def _checked(self, value: Any) -> Any:
        try:
            return self._adapter.dump_python(self._adapter.validate_python(value), mode="json", by_alias=True)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, part['loc'])) or '$'}: {part['type']}"
                for part in error.errors(include_url=False, include_context=False, include_input=False)
            )
            raise ValueError(f"{self._name} does not accept it: {problems}") from None
        except (PydanticSerializationError, RecursionError):
            raise ValueError(f"{self._name} cannot be written as JSON") from None


def _public(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return what may become columns: a property that was not asked for must not replace the row's ``_i``."""
    return {name: value for name, value in answer.items() if not name.startswith("_")}
