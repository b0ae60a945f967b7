"""What a call took and cost, in words."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen.cli.call_lines import call_lines
from llm_datagen.runs.browse.call_words import call_facts

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
