"""Where a sample row comes from: the rows before it, and the calls of models behind each. All texts are bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from llm_datagen.runs.browse.call_words import call_facts, turns_of
from llm_datagen.runs.browse.family import Member
from llm_datagen.runs.report.model import Call, Relative
from llm_datagen.runs.report.text import as_json
from llm_datagen.runs.words import cut
from llm_datagen.streams.ids import Id

FamilyOf = Callable[[Id], Iterable[Member]]
"""Finds the relatives of a row."""

_MOST_RELATIVES = 12
_MOST_CALLS = 3
_ERROR_CHARS = 300
_UP = frozenset(("ancestor", "itself"))


def family_of(members: Iterable[Member], chars: int) -> Iterator[Relative]:
    """Yield what a row comes from, and the row itself at each place, with the calls behind each.

    Args:
        members: its relatives.
        chars: characters of a row, a prompt or an answer, at most.
    """
    shown = [member for member in members if member.trace.relation in _UP]
    for member in shown[:_MOST_RELATIVES]:
        found = member.trace
        yield Relative(
            where=found.where,
            relation=found.relation,
            row_id=str(found.row_id),
            state=found.state,
            item="" if found.item is None else as_json(found.item, chars),
            calls=[_call(call, chars) for call in member.calls[:_MOST_CALLS]],
        )


def length_of(relative: Relative) -> int:
    """Return how many characters a relative takes, about."""
    return len(relative.item) + sum(len(call.prompt) + len(call.answer) for call in relative.calls)


def _call(call: Mapping[str, Any], chars: int) -> Call:
    prompt = "\n\n".join(f"{who}: {_said(said)}" for who, said in turns_of(call))
    return Call(
        model=str(call.get("model") or "?"),
        prompt=cut(prompt, chars),
        answer=cut(_said(call.get("answer")), chars),
        details=", ".join(_details(call)),
    )


def _said(content: Any) -> str:
    """Return what was said; parts that are no text, such as images, as JSON."""
    return "" if content is None else content if isinstance(content, str) else as_json(content, 10**9)


def _details(call: Mapping[str, Any]) -> Iterator[str]:
    if call.get("provider"):
        yield f"at {call['provider']}"
    yield from call_facts(call)
    if call.get("error"):
        yield f"failed: {cut(str(call['error']), _ERROR_CHARS)}"
