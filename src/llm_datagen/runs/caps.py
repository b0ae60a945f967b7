"""What the operators of a run may spend: by its run state, as far as that says how they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class NodeCaps:
    """What the operator of a node may spend, as the run was created: what a resume was given is not in the run state.

    Attributes:
        node_id: the node.
        usd: US dollars; None for any.
        tokens: tokens; None for any.
    """

    node_id: str
    usd: float | None
    tokens: int | None


def caps_of(run_state: Mapping[str, Any]) -> list[NodeCaps]:
    """Return what the nodes may spend; of a node without a budget, nothing."""
    return [
        NodeCaps(entry["node_id"], budget.get("usd"), budget.get("tokens"))
        for entry in run_state.get("nodes") or ()
        for budget in _budgets(entry.get("operator_ref"))
    ]


def _budgets(held: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the budgets within the arguments of an operator: dicts, or made of ones."""
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
