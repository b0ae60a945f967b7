"""Arguments of the wrong type are refused by name when an operator is made, and not when the first row comes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from llm_datagen import ops
from llm_datagen.errors import ConfigError

NEEDED: dict[str, dict[str, Any]] = {
    "Best": {"by": "s", "of": "q"},
    "Choose": {"column": "c", "values": {"a": 1.0}},
    "Cross": {"tone": ["calm", "angry"]},
    "Drop": {"columns": "a"},
    "Explode": {"column": "a"},
    "GroupBy": {"by": "a"},
    "Join": {"table": "jsonl://t.jsonl", "by": "a"},
    "Keep": {"condition": "a > 1"},
    "Limit": {"n": 1},
    "Loop": {"body": ops.Explode("a"), "max_rounds": 2},
    "Rename": {"columns": {"a": "b"}},
    "RouteBy": {"column": "a"},
    "RouteWhen": {"conditions": {"a": "b > 1"}},
    "Sample": {"n": 2},
    "Select": {"columns": "a"},
    "Split": {"parts": {"a": 0.5, "b": 0.5}},
    "TopK": {"k": 1, "by": "s"},
    "Vote": {"columns": ["a", "b"]},
}
"""What an operator cannot be made without."""

OTHERS = {("Sample", "share"): "n", ("GroupBy", "key"): "by", ("Best", "key"): "of"}
"""What is left out where an argument is given in its place."""

VALUES: list[Any] = [
    None, True, 7, -1, 0.5, float("nan"), "text", "", {"a": 1}, {"a": None}, {}, [1], [], ["a", ["b"]], b"x", object(),
    {"a"},
]  # fmt: skip


def arguments() -> list[tuple[str, str]]:
    """Return all arguments of all operators, each with the name of its operator."""
    known = ((name, inspect.signature(getattr(ops, name)).parameters.values()) for name in ops.__all__)
    return [(name, each.name) for name, found in known for each in found if each.kind is not each.VAR_KEYWORD]


def refusal(name: str, argument: str, value: Any) -> str | None:
    """Return why an operator is not made with an argument; None when it is."""
    try:
        make(name, argument, value)
    except ConfigError as error:
        return str(error)
    return None


def make(name: str, argument: str, value: Any) -> Any:
    given = {**NEEDED.get(name, {}), argument: value}
    given.pop(OTHERS.get((name, argument), ""), None)
    return getattr(ops, name)(**given)


@pytest.mark.parametrize(("name", "argument"), arguments())
def test_an_argument_of_the_wrong_type_is_refused_by_its_name(name: str, argument: str) -> None:
    hints = get_type_hints(getattr(ops, name).__init__, localns={"Callable": Callable})
    type_of_it: TypeAdapter[Any] = TypeAdapter(hints[argument])
    refused = {number: text for number, value in enumerate(VALUES) if (text := refusal(name, argument, value))}
    assert [text for text in refused.values() if argument not in text] == []
    assert len(refused) >= len(VALUES) - 5
    for number, value in enumerate(VALUES):
        if number not in refused:
            type_of_it.validate_python(value, strict=True)


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("GroupBy", {"by": {"a": 1}}, "by must be the name of a column, or a list of them, not {'a': 1}"),
        ("GroupBy", {"by": "a", "sorted": 1}, "sorted must be True or False, not 1"),
        ("GroupBy", {"key": "text"}, "key must be a function, or its 'module:name', not 'text'"),
        ("Shuffle", {"seed": 0.5}, "seed must be a whole number or a text, not 0.5"),
        ("Sample", {"share": 0.5, "seed": True}, "seed must be a whole number or a text, not True"),
        ("TopK", {"k": 3, "by": "s", "largest": "no"}, "largest must be True or False, not 'no'"),
        ("Join", {"table": "t.jsonl", "by": "a", "prefix": None}, "prefix must be text, not None"),
        ("Split", {"parts": {"a": 1}, "by": ["x"]}, "by must be the name of a column, or None, not ['x']"),
        ("ToPreference", {"least_gap": "1"}, "least_gap must be a number from 0 on, not '1'"),
        ("Feedback", {"seeds": 7}, "seeds must be a list of rows, not 7"),
        ("Dedupe", {"normalize": {}}, "normalize must be a list of 'lower', 'whitespace', not {}"),
    ],
)
def test_the_error_says_what_was_given_and_what_is_wanted(name: str, given: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        getattr(ops, name)(**given)
    assert str(error.value) == text
