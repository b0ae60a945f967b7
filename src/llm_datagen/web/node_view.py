"""The JSON of a node: its counts, what its time went into, and what it is told to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.operators.references import parallel_size_of
from llm_datagen.runs.display.node_view import NodeView
from llm_datagen.runs.limit import time_spent
from llm_datagen.runs.status import Status, report_of_entry, shortcomings


def warnings_of(entries: Sequence[Mapping[str, Any]], views: Sequence[NodeView]) -> list[str]:
    """Return what should be looked at: nodes without rows, short of their targets, in an outage, or stalled."""
    stopped = [f"{view.node_id}: {view.stopped_by}" for view in views if view.stopped_by]
    return [*shortcomings(map(report_of_entry, entries)), *stopped]


def node_json(
    entry: Mapping[str, Any], view: NodeView, *, shards: int, inputs: Sequence[str], outputs: Sequence[str]
) -> dict[str, Any]:
    """Return the JSON of a node.

    Args:
        entry: its entry in the run state.
        view: the same, with its true status.
        shards: how many shards of the run have begun; 1 of a run that is not in shards.
        inputs: the keys of the streams that it reads.
        outputs: the keys of the streams that it writes.
    """
    times = time_spent(entry, shards)
    return {
        "node_id": view.node_id,
        "operator": view.operator,
        "status": str(view.status),
        "paused": view.paused,
        "parallel_size": parallel_size_of(entry),
        "batch_size": entry["batch_size"],
        "rate": entry.get("rate"),
        "inputs": list(inputs),
        "outputs": list(outputs),
        "rows_in": view.done,
        "rows_out": view.out,
        "filtered": view.filtered,
        "rejected": view.rejected,
        "failed": view.failed,
        "skipped": view.skipped,
        "dead_letters": view.dead,
        "target_rows": view.target,
        "total": view.total,
        "total_is_exact": view.is_exact,
        "rows_per_second": view.rate,
        "eta_s": view.seconds_left,
        "in_flight": entry.get("in_flight", 0) if view.status == Status.RUNNING else 0,
        "queue": entry.get("queued", 0) if view.status == Status.RUNNING else 0,
        "queue_size": entry["writer_config"]["queue_size"],
        "cost": view.cost,
        "usage": entry.get("usage") or [],
        "seconds": view.seconds,
        "times": {
            "busy": times.busy or 0.0,
            "waiting": times.starved or 0.0,
            "held_back": times.held_back or 0.0,
            "rate_limited": times.rate_limited or 0.0,
            "lead_limited": times.lead_limited or 0.0,
        },
        "stalled": view.stalled,
        "outage": entry["outage"] if view.outage else None,
        "error": entry.get("error"),
    }
