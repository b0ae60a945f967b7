"""What a model is told of a function, and which functions are refused."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from llm_datagen.errors import ConfigError
from llm_datagen.llm import Tool, Tools
from llm_datagen.llm.tools.docstrings import docstring_of
from llm_datagen.llm.tools.function import ArgumentsError, FunctionTool

from .tool_kit import add, echo


class Place(BaseModel):
    city: str
    zip: int | None = None


class Colour(enum.Enum):
    RED = "red"


def visit(
    place: Place,
    copy: Annotated[int, Field(ge=1, description="How many.")] = 2,
    _kind: Literal["a", "b"] = "a",
    colours: list[Colour] | None = None,
    ctx: Any = None,
) -> str:
    """Visit a place.

    With several lines.

    :param place: where
        it is
    :param int copy: not this one
    :returns: a text
    """
    return f"{place.city} {copy} {_kind} {colours} {ctx}"


def spec(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    return FunctionTool(Tool(function, **options)).spec


def test_the_schema_of_a_function_is_that_of_its_signature_type_hints_and_docstring() -> None:
    assert spec(add) == {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {
                "a": {"type": "integer", "description": "the first number."},
                "b": {"type": "integer", "default": 1, "description": "the second one."},
            },
            "required": ["a"],
            "additionalProperties": False,
        },
    }
    found = spec(visit)
    assert found["description"] == "Visit a place.\n\nWith several lines."
    assert list(found["parameters"]["properties"]) == ["place", "copy", "_kind", "colours"]
    assert found["parameters"]["properties"]["place"] == {"$ref": "#/$defs/Place", "description": "where it is"}
    assert found["parameters"]["properties"]["copy"] == {
        "type": "integer",
        "minimum": 1,
        "default": 2,
        "description": "How many.",
    }
    assert found["parameters"]["required"] == ["place"]


def test_arguments_are_what_the_type_hints_say() -> None:
    tool = FunctionTool(Tool(visit))
    found = tool.arguments({"place": {"city": "Rome"}, "copy": "3", "colours": ["red"]})
    assert found == {"place": Place(city="Rome"), "copy": 3, "colours": [Colour.RED]}
    assert tool.takes_ctx
    assert visit(**found) == "Rome 3 a [<Colour.RED: 'red'>] None"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "place: Field required"),
        ({"place": {"city": 1}}, "place.city: Input should be a valid string"),
        ({"place": {"city": "x"}, "copy": 0, "_kind": "c"}, "copy: .* 1; _kind: Input should be 'a' or 'b'"),
        ({"place": {"city": "x"}, "ctx": 1}, "ctx: Extra inputs are not permitted"),
    ],
)
def test_arguments_that_do_not_fit_are_named(given: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ArgumentsError, match=message):
        FunctionTool(Tool(visit)).arguments(given)


def test_a_schema_of_ones_own_is_sent_and_checked_as_it_is() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string", "minLength": 2}}, "required": ["q"]}

    def look(**arguments: Any) -> Any:
        return arguments

    tool = FunctionTool(Tool.of({"type": "function", "function": {"name": "l", "parameters": schema}, "call": look}))
    assert tool.spec == {"name": "l", "parameters": schema}
    assert tool.arguments({"q": "xy", "z": 1}) == {"q": "xy", "z": 1}
    with pytest.raises(ArgumentsError, match=r"\$\.q breaks minLength 2"):
        tool.arguments({"q": "x"})


def test_methods_partial_functions_and_objects_that_can_be_called_are_tools() -> None:
    class Holder:
        def method(self, x: int) -> int:
            """Doc."""
            return x

        async def __call__(self, y: str) -> str:
            return y

    assert spec(Holder().method)["name"] == "method"
    partial = spec(functools.partial(add, 1), name="inc")
    assert (partial["description"], list(partial["parameters"]["properties"])) == ("Adds two numbers.", ["b"])
    assert FunctionTool(Tool(Holder(), name="it")).is_async
    assert FunctionTool(Tool("tests.llm.tool_kit:echo")).function is echo


def positional(a: int, /) -> None: ...


def variadic(*parts: int) -> None: ...


def open_ended(**parts: int) -> None: ...


def odd(a: Callable[[], int]) -> None: ...


def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tools([positional]), "takes a: int"),
        (lambda: Tools([variadic]), r"takes \*parts: int"),
        (lambda: Tools([open_ended]), r"takes \*\*parts: int, and a model gives arguments by their names"),
        (lambda: Tools([odd]), "tool odd has a parameter whose type cannot be made of JSON"),
        (lambda: Tools([unknown]), "a type hint of the tool unknown cannot be looked up: name 'Nowhere'"),
        (lambda: Tools([lambda x: x]), "must have a name of up to 64 letters.*not '<lambda>'"),
        (lambda: Tools([Tool(add, name="no space")]), "not 'no space'"),
        (lambda: Tools(["tests.llm.tool_kit:nowhere"]), "the tool 'tests.llm.tool_kit:nowhere' cannot be imported"),
        (lambda: Tools(["tests.llm.tool_kit:USAGE"]), "is not a function"),
        (lambda: Tools(["look"]), "a tool must be a function or 'module:name' of one, not 'look'"),
        (lambda: Tools([add, add]), "two tools are called 'add'"),
        (lambda: Tools([Tool(add, parameters={"type": "string"})]), "must be a schema of the type 'object'"),
        (
            lambda: Tools([Tool(add, parameters={"type": "object", "properties": {"z": {}}})]),
            "the tool add has no parameter 'z', which its schema has",
        ),
        (lambda: Tools([Tool(add, parameters={"type": "objekt"})]), "the schema is not valid"),
        (lambda: Tools([{"type": "function", "function": {"name": "f"}}]), "the tool 'f' has no function"),
        (lambda: Tools([{"function": add, "nmae": "x"}]), "nmae"),
        (lambda: Tools([]), "tools must be a list"),
        (lambda: Tools("tests.llm.tool_kit:add"), "tools must be a list"),
        (lambda: Tools([add], max_rounds=0), r"^tools\['max_rounds'\] must be a whole number"),
        (lambda: Tools([add], max_usd=0), r"^tools\['max_usd'\] must be a positive"),
        (lambda: Tools([add], on_tool_error="skip"), r"^tools\['on_tool_error'\] must be one of 'tell', 'fail'"),  # type: ignore[arg-type]
        (lambda: Tools.of({"max_rounds": 3}), "tools must say 'tools'"),
    ],
)
def test_tools_that_cannot_be_used_are_refused_at_construction(make: Callable[[], Tools], message: str) -> None:
    from llm_datagen.llm.tools.toolbox import Toolbox

    with pytest.raises(ConfigError, match=message):
        Toolbox(make())


def test_docstrings_of_other_kinds_say_what_they_can() -> None:
    def bare(x: int) -> None:
        """One: this is no section, but a sentence.

        Example:
            bare(1)

        Args:
            x (int, optional): a number: any
                one at all
            *rest: not here

        Raises:
            x: never
        """

    assert docstring_of(bare) == (
        "One: this is no section, but a sentence.",
        {"x": "a number: any one at all", "rest": "not here"},
    )
    assert docstring_of(lambda: 1) == ("", {})
