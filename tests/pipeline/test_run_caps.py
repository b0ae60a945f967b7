"""What a run may spend, and what it has spent of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_datagen.runs.caps import NodeCaps, caps_of
from llm_datagen.shards.run_view import RunView
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


def test_only_nodes_with_a_budget_spend_of_it(tmp_path: Path) -> None:
    ends = {"input_uri": "a.jsonl", "output_uri": "b.jsonl"}, {"input_uri": "b.jsonl", "output_uri": "c.jsonl"}
    run_state = {"nodes": [{**asks("a", 1.0, budget={"usd": 5}), **ends[0]}, {**asks("b", 40.0), **ends[1]}]}
    run = RunView(pipeline_id="a", results_dir=str(tmp_path), status="running", state=run_state)
    shown = {
        "cap": 5, "cap_tokens": None, "projected": 2.0, "problem": "",
        "spent": 1.0, "lost": 0.0, "in_flight": 0.0, "untold": 0.0,
        "spent_tokens": 10, "lost_tokens": 0, "in_flight_tokens": 0, "untold_tokens": 0,
    }  # fmt: skip
    assert budget_json(run, {}) == shown
    assert budget_json(run, {"usd": 7.5, "tokens": 900}) == {**shown, "cap": 7.5, "cap_tokens": 900}
