"""The JSON of how a run went over time, and of what it has cost: by node, by model, by hour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from llm_datagen.runs import RunFolder
from llm_datagen.runs.output_node import RowsOut
from llm_datagen.runs.timeline import Point, points
from llm_datagen.shards.run_view import RunView
from llm_datagen.web.budgets import budget_json, projected, usage_json
from llm_datagen.web.looking import known_origin


def timeline_json(folder: RunFolder, run: RunView) -> dict[str, Any]:
    """Return how far a run was over time."""
    found = points(folder)
    began = _began(run, found)
    return {
        "points": [
            [
                round((point.at - began).total_seconds(), 3),
                point.cost,
                {node: [each.rows_in, each.rows_out, each.failed] for node, each in point.nodes.items()},
            ]
            for point in found
        ]
    }


def cost_json(folder: RunFolder, run: RunView) -> dict[str, Any]:
    """Return what a run has cost."""
    origin = known_origin(folder)
    nodes, entries = run.progress.nodes, run.state.get("nodes") or []
    return {
        "total": run.progress.cost,
        "projected": projected(nodes),
        "by_node": [usage_json(node, entry) for node, entry in zip(nodes, entries, strict=True)],
        "by_model": run.state.get("usage") or [],
        "by_hour": _by_hour(points(folder), run.progress.out.outputs),
        "budget": budget_json(run, {} if origin is None else origin.caps),
    }


def _began(run: RunView, found: Sequence[Point]) -> datetime:
    text = run.state.get("created_at")
    if text:
        return datetime.fromisoformat(text)
    return found[0].at if found else datetime.now(UTC)


def _by_hour(found: Sequence[Point], outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Return what was spent, and how many rows came out, in each hour in which something was or did.

    Args:
        found: the points of the run.
        outputs: the nodes whose rows count; none: the last one.
    """
    hours: dict[str, dict[str, Any]] = {}
    cost, rows = 0.0, 0
    for point in found:
        now_cost = cost if point.cost is None else point.cost
        written = {node_id: counts.rows_out for node_id, counts in point.nodes.items()}
        now_rows = RowsOut(written, outputs).total if written else rows
        name = point.at.astimezone(UTC).replace(minute=0, second=0, microsecond=0).isoformat()
        hour = hours.setdefault(name, {"hour": name, "cost": 0.0, "rows": 0})
        hour["cost"] = round(hour["cost"] + max(0.0, now_cost - cost), 12)
        hour["rows"] += max(0, now_rows - rows)  # rows that are done again count back
        cost, rows = now_cost, now_rows
    return [hour for hour in hours.values() if hour["cost"] or hour["rows"]]
