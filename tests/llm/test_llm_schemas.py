"""JSON schemas: what is wrong is said without the value, and a schema that cannot be checked is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.json_schema import JsonSchema

DEFS = {"$defs": {"word": {"type": "string", "pattern": "^[a-z]+$"}}}
TREE = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "good", "bad", "message"),
    [
        ({"type": "integer"}, 3, True, r"\$ is not of type integer$"),
        ({"type": ["number", "null"]}, None, "secret", "is not of type number or null"),
        ({"enum": ["a", "b"]}, "a", "secret", r"is none of \[\"a\",\"b\"\]"),
        ({"const": 1}, 1, "secret", "is not 1"),
        ({"type": "string", "minLength": 2}, "ab", "a", "breaks minLength 2"),
        ({"type": "string", "maxLength": 2}, "ab", "secret", "breaks maxLength 2"),
        ({"type": "number", "maximum": 10}, 10, 10.5, "breaks maximum 10"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 2}, ["a"], ["a", 1], r"\$\[1\] is not"),
        ({"type": "array", "uniqueItems": True}, [1], ["secret", "secret"], "breaks uniqueItems true"),
        ({"anyOf": [{"maxLength": 3}, {"pattern": "y"}]}, "x", "secret", r"\$ (breaks|matches none)"),
        ({"oneOf": [{"type": "string"}, {"maxLength": 9}]}, 7, "secret", "more than one, of the alternatives of oneOf"),
        ({"$ref": "#/$defs/word", **DEFS}, "abc", "SECRET", "breaks pattern"),
        ({"format": "date"}, "2020-02-03", "secret", "breaks format"),
        ({"type": "object", "properties": {"a": {"type": "object", "required": ["b", "c"]}}},
         {"a": {"b": 1, "c": 2}}, {"a": {"x": "secret"}}, r"\$\.a lacks b, c"),
        (TREE, {"next": {"next": {}}}, {"next": {"secret": 1}}, r"\$\.next has 1 properties that the schema does not"),
        ({"enum": ["x" * 500]}, "x" * 500, "secret", r"none of \[\"x{198}…$"),
    ],
)  # fmt: skip
def test_a_value_that_breaks_a_rule_is_found_and_one_that_keeps_it_is_not(
    schema: dict[str, Any], good: Any, bad: Any, message: str
) -> None:
    checked = JsonSchema(schema)
    assert checked.violation(good) is None
    problem = checked.violation(bad)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(problem)
    assert "secret" not in str(problem).lower()


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "text"}, r"the schema is not valid at \$\.type"),
        ({"oneOf": []}, r"at \$\.oneOf"),
        ({"properties": []}, r"at \$\.properties"),
        ({"$ref": "https://example.org/schema"}, "'https://example.org/schema', which is not in it"),
        ({"properties": {"a": {"items": {"$ref": "#/$defs/missing"}}}}, "'#/[$]defs/missing', which is not in it"),
        ({"$defs": {"a": {"$ref": "other.json"}}}, "nothing is fetched"),
        ({"properties": {"a": {"pattern": "("}}}, r"at \$\.properties\.a\.pattern"),
        ({"maxLength": "5"}, r"at \$\.maxLength"),
        ({"default": {1, 2}}, "must be JSON data"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JsonSchema(schema)


def test_references_by_the_names_that_a_schema_gives_are_followed() -> None:
    schema = {
        "$id": "https://example.org/me",
        "$ref": "https://example.org/me#/$defs/word",
        "$defs": {"word": {"$anchor": "w", "minLength": 2}, "more": {"$ref": "#w"}},
        "const": {"$ref": "data.json"},
    }
    assert JsonSchema({**schema, "const": "ab"}).violation("ab") is None
    assert JsonSchema(schema).violation("a") is not None


def test_an_answer_that_is_nested_without_end_is_a_violation() -> None:
    deep = json.loads('{"next":' * 400 + "{}" + "}" * 400)
    assert JsonSchema(TREE).violation(deep) == "$ is nested too deeply"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ANYTHING = JsonSchema(
    {
        "type": ["object", "array", "string", "number"],
        "properties": {"a": {"type": "string", "maxLength": 2, "format": "uuid"}},
        "required": ["b"],
        "additionalProperties": {"multipleOf": 0.1},
        "items": {"type": "integer", "minimum": 0},
        "oneOf": [{"minLength": 1}, {"enum": [1, "a"]}],
    }
)


@given(value=json_values)
@example(value={"b": 1, "c": 1e308, "d": 10**400})
def test_whatever_the_value_is_the_answer_is_a_verdict_and_no_exception(value: Any) -> None:
    assert isinstance(ANYTHING.violation(value), str | None)
