"""``strict`` is claimed of a schema only when it fits the rules; what can be written otherwise is."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from llm_datagen.llm.answers.formats import answer_format
from llm_datagen.llm.answers.strict import strict_schema


def sent(output: Any) -> Any:
    return answer_format(output).request_fields()["response_format"]["json_schema"]


def of(part: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": part}, "required": ["a"], "additionalProperties": False, **more}


WORD = {"type": "string", "enum": ["x", "y"]}
REWRITTEN: dict[str, tuple[Any, Any]] = {
    "default": (of({"type": "string", "default": "x"}), of({"type": "string"})),
    "examples": (of({"type": "string", "examples": ["x"]}), of({"type": "string"})),
    "open by silence": (
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        of({"type": "string"}),
    ),
    "beside a $ref": (
        of({"$ref": "#/$defs/W", "description": "d", "default": "x"}, **{"$defs": {"W": WORD}}),
        of({**WORD, "description": "d"}, **{"$defs": {"W": WORD}}),
    ),
    "title beside a $ref": (
        of({"$ref": "#/$defs/W", "title": "t"}, **{"$defs": {"W": WORD}}),
        of({"$ref": "#/$defs/W"}, **{"$defs": {"W": WORD}}),
    ),
    "allOf of one": (
        of({"allOf": [{"$ref": "#/$defs/W"}], "default": "x"}, **{"$defs": {"W": WORD}}),
        of({"$ref": "#/$defs/W"}, **{"$defs": {"W": WORD}}),
    ),
    "description beside a recursive $ref": (
        of({"anyOf": [{"type": "null"}, {"$ref": "#", "description": "d"}]}),
        of({"anyOf": [{"type": "null"}, {"$ref": "#"}]}),
    ),
    "oneOf of types": (
        of({"oneOf": [{"type": "string"}, {"type": "null"}]}),
        of({"anyOf": [{"type": "string"}, {"type": "null"}]}),
    ),
    "oneOf by a constant": (
        of({"oneOf": [of({"const": 1}), of({"const": 2})]}),
        of({"anyOf": [of({"const": 1}), of({"const": 2})]}),
    ),
    "type in a list": (of({"type": ["string"]}), of({"type": "string"})),
}
NOT_STRICT: dict[str, Any] = {
    "a property that may be left out": {"type": "object", "properties": {"a": {"type": "string"}}},
    "open map": of({"type": "object", "additionalProperties": {"type": "string"}}),
    "open object": of({"type": "string"}, additionalProperties=True),
    "object without properties": of({"type": "object"}),
    "anything": of({}),
    "true": of(True),
    "list of anything": of({"type": "array"}),
    "oneOf that overlap": of({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
    "oneOf beside anyOf": of({"oneOf": [{"type": "string"}], "anyOf": [{"type": "string"}]}),
    "rules beside a $ref": of({"$ref": "#/$defs/W", "maxLength": 1}, **{"$defs": {"W": WORD}}),
    "allOf of two": of({"allOf": [{"type": "string"}, {"pattern": "a"}]}),
    "not": of({"type": "string", "not": {"const": "x"}}),
    "patternProperties": of({"type": "string"}, patternProperties={"^b": {"type": "string"}}),
    "prefixItems": of({"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "string"}}),
    "minLength": of({"type": "string", "minLength": 1}),
    "a format of its own": of({"type": "string", "format": "uri"}),
    "anyOf beside properties": of({"type": "string"}, anyOf=[{"required": ["a"]}]),
    "too many levels": None,
}
deep: Any = {"type": "string"}
for _ in range(12):
    deep = of(deep)
NOT_STRICT["too many levels"] = deep


@pytest.mark.parametrize(("schema", "strict"), REWRITTEN.values(), ids=REWRITTEN)
def test_what_strict_endpoints_refuse_is_written_otherwise(schema: Any, strict: Any) -> None:
    found = sent(schema)
    assert (found["schema"], found["strict"]) == (strict, True)


@pytest.mark.parametrize("schema", NOT_STRICT.values(), ids=NOT_STRICT)
def test_what_cannot_be_written_so_is_sent_as_it_is_and_not_strict(schema: Any) -> None:
    found = sent(schema)
    assert (found["schema"], found["strict"]) == (schema, False)


class Colour(Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Home(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    colour: Colour = Field(Colour.RED, description="of the house")
    parts: list[Home] = []
    note: str | None = None


def test_a_pydantic_model_is_strict_with_all_its_fields_asked_for() -> None:
    found = sent(Home)
    assert found["strict"] is True
    schema = found["schema"]
    assert schema["required"] == ["pet", "colour", "parts", "note"]
    assert schema["properties"]["pet"]["anyOf"] == [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    assert schema["properties"]["colour"]["description"] == "of the house"
    assert schema["$defs"]["Cat"]["required"] == ["kind", "lives"]
    text = str(schema)
    assert not any(word in text for word in ("'default'", "oneOf", "discriminator", "allOf"))


def test_an_answer_is_checked_against_the_schema_as_it_was_given() -> None:
    schema = of({"type": "string", "default": "x"}, additionalProperties=True, minProperties=2)
    assert strict_schema(schema) is None
    assert answer_format(schema).parse('{"a": "b", "c": 1}').rows == [{"a": "b", "c": 1}]
    with pytest.raises(ValueError, match="minProperties"):
        answer_format(schema).parse('{"a": "b"}')
