"""What a model call took and cost, in words: for the terminal and for reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import number


def calls_in(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield the calls of tools that a message makes, as ``add({"a": 2})``."""
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        yield f"{function.get('name')}({function.get('arguments')})"


def call_facts(call: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a call took and cost, as far as that is known.

    Args:
        call: the call; see `Member`.
    """
    for name, words in (("tokens_in", "tokens in"), ("tokens_out", "tokens out")):
        if call.get(name) is not None:
            yield f"{number(call[name])} {words}"
    yield "unknown cost" if call.get("cost") is None else dollars(call["cost"])
    if call.get("seconds") is not None:
        yield f"{call['seconds']:.1f} s"
    if (call.get("attempts") or 1) > 1:
        yield f"{number(call['attempts'])} attempts"
    if call.get("repairs"):
        yield "1 repair" if call["repairs"] == 1 else f"{number(call['repairs'])} repairs"
    if call.get("tool_calls"):
        yield "1 call of a tool" if call["tool_calls"] == 1 else f"{number(call['tool_calls'])} calls of tools"
    if call.get("cached"):
        yield "from the cache"
