"""What a run may spend, has spent, and will have spent: by its run state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.runs.display.node_view import NodeView, tokens_in


@dataclass(frozen=True, slots=True)
class Caps:
    """What the operators of a run may spend, as it was created; the smallest, where there are several.

    Attributes:
        usd: US dollars; None for any.
        tokens: tokens; None for any.
    """

    usd: float | None
    tokens: int | None


def caps_of(run_state: Mapping[str, Any]) -> Caps | None:
    """Return what a run may spend, as its run state says; None when nothing is said.

    A budget that a resume was given is not in the run state.
    """
    found = [budget for entry in run_state.get("nodes") or [] for budget in _budgets(entry.get("operator_ref"))]
    if not found:
        return None
    caps = {
        name: min((each[name] for each in found if each.get(name) is not None), default=None)
        for name in ("usd", "tokens")
    }
    return Caps(**caps)


def _budgets(held: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the budgets within the arguments of an operator."""
    if isinstance(held, Mapping):
        for name, value in held.items():
            budget = value.get("of", value) if isinstance(value, Mapping) else None
            if name == "budget" and isinstance(budget, Mapping):
                yield budget
            else:
                yield from _budgets(value)
    elif isinstance(held, list):
        for value in held:
            yield from _budgets(value)


def budget_json(run_state: Mapping[str, Any], nodes: Sequence[NodeView]) -> dict[str, Any] | None:
    """Return the JSON of the budget of a run; None when it has none."""
    caps = caps_of(run_state)
    if caps is None:
        return None
    return {
        "cap": caps.usd,
        "cap_tokens": caps.tokens,
        "spent": sum(node.cost or 0.0 for node in nodes),
        "spent_tokens": sum(node.tokens for node in nodes),
        "projected": projected(nodes),
    }


def projected(nodes: Sequence[NodeView]) -> float | None:
    """Return what a run will have cost in US dollars when all rows are done, if the others cost as much.

    None when no price is known, or it is not known how many rows there are.
    """
    paid = [node for node in nodes if node.cost is not None and node.done]
    if not paid or any(node.total is None for node in paid):
        return None
    return sum((node.cost or 0.0) * max(node.total or 0, node.done) / node.done for node in paid)


def usage_json(node: NodeView, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a node has used."""
    usage = entry.get("usage") or []
    return {
        "node_id": node.node_id,
        "operator": node.operator,
        "cost": node.cost,
        "tokens": sum(map(tokens_in, usage)),
        "usage": usage,
    }
