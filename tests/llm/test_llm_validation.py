"""JSON schemas: what is checked is checked, and what is not is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.errors import ConfigError
from llm_datagen.llm.validation import check_schema, violation

DEFS = {"$defs": {"word": {"type": "string", "pattern": "^[a-z]+$"}}}


@pytest.mark.parametrize(
    ("schema", "good", "bad", "message"),
    [
        ({"type": "integer"}, 3, True, r"\$ is not of type integer"),
        ({"type": ["number", "null"]}, None, "3", "is not of type"),
        ({"enum": ["a", "b"]}, "a", "c", "is none of"),
        ({"const": 1}, 1, 2, "is not 1"),
        ({"type": "string", "minLength": 2}, "ab", "a", "breaks minLength 2"),
        ({"type": "number", "maximum": 10}, 10, 10.5, "breaks maximum 10"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 2}, ["a"], ["a", 1], r"\$\[1\] is not"),
        ({"type": "array", "maxItems": 1}, [1], [1, 2], "breaks maxItems 1"),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, "x", 1, "matches none of the alternatives"),
        ({"$ref": "#/$defs/word", **DEFS}, "abc", "ABC", "breaks pattern"),
        ({"type": "object", "properties": {"a": {"type": "object", "required": ["b"]}}}, {"a": {"b": 1}}, {"a": {}},
         r"\$\.a lacks b"),
    ],
)  # fmt: skip
def test_a_value_that_breaks_a_rule_is_found_and_one_that_keeps_it_is_not(
    schema: dict[str, Any], good: Any, bad: Any, message: str
) -> None:
    check_schema(schema)
    assert violation(good, schema, schema) is None
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(violation(bad, schema, schema))


@pytest.mark.parametrize(
    "schema",
    [
        [],
        {"type": "text"},
        {"oneOf": []},
        {"properties": []},
        {"$ref": "https://example.org/schema"},
        {"$ref": "#/$defs/missing"},
        {"pattern": "("},
        {"maxLength": "5"},
        {"anyOf": []},
        {"additionalProperties": {"type": "string"}},
        {"properties": {"a": {"items": {"multipleOf": 2}}}},
        {"$defs": {"a": {"not": {}}}},
    ],
)
def test_a_schema_that_cannot_be_checked_in_full_is_refused(schema: Any) -> None:
    with pytest.raises(ConfigError, match="schema"):
        check_schema(schema)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values)
def test_whatever_the_value_is_the_answer_is_a_verdict_and_no_exception(value: Any) -> None:
    schema = {
        "type": ["object", "array", "string", "number"],
        "properties": {"a": {"type": "string", "maxLength": 2}},
        "items": {"type": "integer", "minimum": 0},
        "minLength": 1,
    }
    assert isinstance(violation(value, schema, schema), str | None)
