"""What the operators of a run may spend, by its run state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def caps_of(run_state: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the budgets of the nodes, as the run was created: of each its ``node_id``, ``usd`` and ``tokens``.

    They are known as far as the run state says how operators are made. A budget that a resume was given is not in it.
    """
    return [
        {"node_id": entry["node_id"], "usd": budget.get("usd"), "tokens": budget.get("tokens")}
        for entry in run_state.get("nodes") or []
        for budget in _budgets(entry.get("operator_ref"))
    ]


def _budgets(held: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the budgets within the arguments of an operator: a mapping, or an object that was made of one."""
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
