"""What a call took and cost, in words."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen.cli.call_lines import call_lines
from llm_datagen.runs.browse.call_words import call_facts, turns_of

PLAIN = {
    "tokens_in": 1200,
    "tokens_out": 3,
    "cost": 0.0012,
    "seconds": 2.04,
    "attempts": 1,
    "repairs": 0,
    "cached": False,
}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (PLAIN, "1,200 tokens in, 3 tokens out, $0.001200, 2.0 s"),
        ({**PLAIN, "cost": None, "cached": True}, "1,200 tokens in, 3 tokens out, unknown cost, 2.0 s, from the cache"),
        ({"cost": 1, "attempts": 2, "repairs": 1}, "$1.00, 2 attempts, 1 repair"),
        ({"cost": 0, "repairs": 2}, "$0.00, 2 repairs"),
        ({"cost": 0, "cached": True, "version": 3}, "$0.00, from the cache, kept from version 3"),
    ],
)
def test_the_words_of_a_call(call: dict[str, Any], words: str) -> None:
    assert ", ".join(call_facts(call)) == words


def test_the_terminal_says_so_in_a_line() -> None:
    call: dict[str, Any] = {**PLAIN, "model": "m", "provider": "p", "messages": [], "answer": None, "error": "E: no"}
    words = "1,200 tokens in, 3 tokens out, $0.001200, 2.0 s"
    head, error = call_lines(call, 200)
    assert head.split(maxsplit=1) == ["call", f"m at p: {words}"]
    assert error.split(maxsplit=1) == ["error", "E: no"]


USER = {"role": "user", "content": "add"}
ADDED = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": '{"a":1}'}}]}
TOLD = [{"role": "tool", "content": "41"}, {"role": "assistant", "content": "forty"}]
BACK = {"role": "user", "content": "cannot be used"}


@pytest.mark.parametrize(
    ("call", "turns"),
    [
        (
            {"messages": [USER, ADDED, *TOLD, BACK], "repairs_at": [4], "repairs": 1, "tool_calls": 1},
            ["user add", 'calls add({"a":1})', "tool 41", "answer 1 forty", "repair cannot be used"],
        ),
        (  # an answer without text is no message
            {"messages": [USER, BACK, TOLD[1], BACK], "repairs_at": [1, 3], "repairs": 2},
            ["user add", "repair cannot be used", "answer 2 forty", "repair cannot be used"],
        ),
        (  # as it was written before the whole conversation was
            {"messages": [USER], "repaired_answers": ["forty", "one"], "repairs": 2},
            ["user add", "answer 1 forty", "answer 2 one"],
        ),
        (
            {"messages": [USER, ADDED, *TOLD, BACK], "repaired_answers": ["forty"], "repairs": 1, "tool_calls": 1},
            ["user add", 'calls add({"a":1})', "tool 41", "assistant forty", "user cannot be used"],
        ),
    ],
)
def test_what_was_said_is_told_in_its_order(call: dict[str, Any], turns: list[str]) -> None:
    assert [f"{who} {said}" for who, said in turns_of(call)] == turns
