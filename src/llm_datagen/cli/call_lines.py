"""A model call, as `llm-datagen trace --calls` shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.runs.browse.call_words import answer_name, call_facts, turns_of
from llm_datagen.runs.display.tables import one_line
from llm_datagen.streams.formats.json_text import dumps


def call_lines(call: dict[str, Any], width: int) -> Iterator[str]:
    """Yield lines: what was asked of whom at what cost, and what was said, in order.

    Args:
        call: the call; see `Member`.
        width: cells of a line, at most.
    """
    where = f" at {call['provider']}" if call["provider"] else ""
    yield _line("call", f"{call['model']}{where}: {', '.join(call_facts(call))}", width)
    for who, said in turns_of(call):
        yield _line(who, _text(said), width)
    if call["answer"] is not None or not call.get("error"):
        yield _line(answer_name(call), _text(call["answer"]), width)
    if call.get("error"):
        yield _line("error", call["error"], width)


def _line(name: str, text: str, width: int) -> str:
    head = f"      {one_line(name, 12):<9} "
    return head + one_line(text, max(20, width - len(head)))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else dumps(content).decode()
