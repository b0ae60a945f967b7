"""A function as a tool: what the model is told of it, and how it is called with what the model says."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_json

from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.json_schema import JsonSchema
from llm_datagen.llm.tools.docstrings import Docstring, docstring_of
from llm_datagen.llm.tools.names import checked_name
from llm_datagen.llm.tools.options import Tool

_CTX = "ctx"
_Parameter = inspect.Parameter


class ArgumentsError(ValueError):
    """Raised when arguments do not fit; the text is for the model."""


class Arguments(Protocol):
    """What a function takes."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema."""

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments.

        Raises:
            ArgumentsError: when they do not fit.
        """


class FunctionTool:
    """A tool that is a function.

    Args:
        tool: what the user said.

    Attributes:
        name: its name.
        spec: what the model is told of it.
        function: the function.
        is_async: whether it is awaited, on the event loop.
        takes_ctx: whether it takes the context of the node.
        timeout: seconds that a call may take; None: as for all.

    Raises:
        ConfigError: when there is no schema for it.
    """

    def __init__(self, tool: Tool) -> None:
        self.function = function = tool.loaded()
        self.name = checked_name(tool.name or getattr(function, "__name__", None))
        self.timeout = tool.timeout
        self.is_async = _is_async(function)
        parameters = _parameters_of(function, self.name)
        self.takes_ctx = _CTX in parameters
        named = {name: each for name, each in parameters.items() if name != _CTX}
        said = docstring_of(_documented(function))
        description = said.description if tool.description is None else tool.description
        self._arguments: Arguments
        if tool.parameters is None:
            self._arguments = SignatureArguments(named, said, self.name)
        else:
            self._arguments = SchemaArguments(tool.parameters, named, self.name)
        self.spec: dict[str, Any] = {
            "name": self.name,
            **({"description": description} if description else {}),
            "parameters": self._arguments.schema,
        }

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments that the function is called with.

        Raises:
            ArgumentsError: when they do not fit.
        """
        return self._arguments.checked(given)


class SignatureArguments:
    """Arguments by the signature of a function.

    Args:
        parameters: its parameters.
        said: its docstring.
        tool: the tool's name, for errors.
    """

    def __init__(self, parameters: Mapping[str, _Parameter], said: Docstring, tool: str) -> None:
        fields: dict[str, Any] = {}
        for number, (name, each) in enumerate(parameters.items()):
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
                raise ConfigError(
                    f"the tool {tool} takes {each}, and a model gives arguments by their names: name them, or give "
                    "the schema of what it takes, Tool(function, parameters=…)"
                )
            kind = Any if each.annotation is each.empty else each.annotation
            default = ... if each.default is each.empty else each.default
            fields[f"p{number}"] = (kind, Field(default, alias=name))  # a parameter may be called `copy`, or `_x`
        self._names = dict(zip(fields, parameters, strict=True))
        try:
            self._model: type[BaseModel] = create_model("Arguments", __config__=_CONFIG, **fields)
            schema = self._model.model_json_schema(schema_generator=_Schema)
        except (PydanticUserError, NameError, TypeError, ValueError) as error:
            raise ConfigError(
                f"the tool {tool} has a parameter whose type cannot be made of JSON: {str(error).splitlines()[0]}; "
                "give it another type, or give the schema of what it takes, Tool(function, parameters=…)"
            ) from error
        del schema["title"]
        schema.setdefault("properties", {})
        for name, text in said.parameters.items():
            if name in schema["properties"] and text:
                schema["properties"][name].setdefault("description", text)
        self.schema: Mapping[str, Any] = schema

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments, as the type hints want them. What was left out has the function's default.

        Raises:
            ArgumentsError: saying which one is wrong, and why.
        """
        try:
            found = self._model.model_validate_json(to_json(given))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False, include_input=False)
            raise ArgumentsError("; ".join(map(_words, problems))) from None
        except (PydanticSerializationError, RecursionError):
            raise ArgumentsError("they are nested too deeply") from None
        return {self._names[field]: getattr(found, field) for field in found.model_fields_set}


class SchemaArguments:
    """Arguments by a JSON schema; they are given to the function as they are.

    Args:
        schema: of an object.
        parameters: those of the function.
        tool: the tool's name, for errors.
    """

    def __init__(self, schema: Mapping[str, Any], parameters: Mapping[str, _Parameter], tool: str) -> None:
        self._schema = JsonSchema(schema)
        self.schema = self._schema.schema
        if self.schema.get("type") != "object":
            raise ConfigError(f"the parameters of the tool {tool} must be a schema of the type 'object'")
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        unknown = [name for name in self.schema.get("properties", {}) if name not in parameters]
        if unknown and not takes_all:
            raise ConfigError(f"the tool {tool} has no parameter {', '.join(map(repr, unknown))}, which its schema has")

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments.

        Raises:
            ArgumentsError: when they break the schema.
        """
        problem = self._schema.violation(given)
        if problem:
            raise ArgumentsError(problem)
        return dict(given)


class _Schema(GenerateJsonSchema):
    """JSON Schema without titles made of names; a default that JSON does not have is left out without a word."""

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: names say enough."""
        return False


_CONFIG = ConfigDict(extra="forbid")


def _words(problem: Any) -> str:
    where = ".".join(map(str, problem["loc"])) or "the arguments"
    return f"{where}: {problem['msg']}"


def _parameters_of(function: Callable[..., Any], name: str) -> Mapping[str, _Parameter]:
    try:
        return inspect.signature(function, eval_str=True).parameters
    except NameError as error:
        raise ConfigError(f"a type hint of the tool {name} cannot be looked up: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the tool {name} does not say what it takes ({error}): wrap it in a function that does"
        ) from error


def _documented(function: Any) -> Any:
    """Return what has the docstring of something that is called."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__ counts too
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
