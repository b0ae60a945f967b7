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


def turns_of(call: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what was said before the last answer, in order: who said it, and what.

    Who is the role of a message, or "calls" for a call of a tool; of an answer that could not be used "answer 1", and
    of what was said back to it "repair".

    Args:
        call: the call; see `Member`.
    """
    repairs_at = call.get("repairs_at") or ()
    number = 1
    for at, message in enumerate(call.get("messages") or ()):
        who, said, made = str(message.get("role", "")), message.get("content"), list(calls_in(message))
        if at in repairs_at:
            who, number = "repair", number + 1
        elif at + 1 in repairs_at and who == "assistant":
            who = f"answer {number}"
        if said or not made:
            yield who, said
        for call_text in made:
            yield "calls", call_text
    if not repairs_at and not call.get("tool_calls"):  # written down before the whole conversation was
        for number, text in enumerate(call.get("repaired_answers") or (), start=1):
            yield f"answer {number}", text


def answer_name(call: Mapping[str, Any]) -> str:
    """Return what the last answer is called: "answer", or "answer 2" after a repair."""
    repairs = call.get("repairs") or 0
    return f"answer {repairs + 1}" if repairs else "answer"


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
    if call.get("version"):
        yield f"kept from version {call['version']}"
