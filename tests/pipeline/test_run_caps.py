"""What a run may spend, and what it has spent of that."""

from __future__ import annotations

from typing import Any

from llm_datagen.runs.caps import NodeCaps, caps_of
from llm_datagen.runs.display.node_view import node_views
from llm_datagen.web.budgets import budget_json


def asks(node_id: str, cost: float, **budget: Any) -> dict[str, Any]:
    """Return the entry of a node that asks a model, and has done half of its rows."""
    usage = [{"model": "m", "total_tokens": 10, "cost": cost}]
    return {
        "node_id": node_id, "status": "running", "rows_in": 5, "total": 10, "usage": usage,
        "operator_ref": {"use": "llm_datagen.llm.operator:LLMOperator", "with": {"model": "m", **budget}},
    }  # fmt: skip


def test_budgets_are_found_as_files_and_programs_give_them() -> None:
    made = {"$made": "llm_datagen.llm:Budget", "of": {"usd": 2.0, "tokens": 50}}
    nodes = [asks("a", 1.0, budget={"usd": 5}), asks("b", 1.0, steps=[{"budget": made}]), asks("c", 1.0)]
    assert caps_of({"nodes": nodes}) == [
        NodeCaps("a", 5, None),
        NodeCaps("b", 2.0, 50),
    ]
    assert caps_of({}) == []


def test_only_nodes_with_a_budget_spend_of_it() -> None:
    run_state = {"nodes": [asks("a", 1.0, budget={"usd": 5}), asks("b", 40.0)]}
    shown = {"cap": 5, "cap_tokens": None, "spent": 1.0, "spent_tokens": 10, "projected": 2.0}
    assert budget_json(run_state, node_views(run_state, "running"), {}) == shown
    raised = budget_json(run_state, node_views(run_state, "running"), {"usd": 7.5, "tokens": 900})
    assert raised == {**shown, "cap": 7.5, "cap_tokens": 900}
