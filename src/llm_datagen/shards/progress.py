"""How far a run in shards is: the reports of the nodes of all shards, added up to those of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.runs.status import LIVE, SETTLED, NodeReport, Status
from llm_datagen.runs.usage import UsageSums

_COUNTED = (
    "rows_in", "rows_out", "filtered", "skipped", "dead_letters", "failed", "beyond_target", "cut_rows", "workers",
    "busy_s", "held_back_s", "held_back_times", "rate_limited_s", "lead_limited_s", "starved_s", "starved_times",
)  # fmt: skip
"""What adds up."""


def added_up(node_id: str, entries: Sequence[Mapping[str, Any]], *, not_begun: int, rows: int | None) -> NodeReport:
    """Return the report of a node over all shards.

    Args:
        node_id: the node.
        entries: its reports in the shards that have begun, as run states have them.
        not_begun: how many shards have not.
        rows: how many rows it has to do in all; None when that is known when all shards know it.
    """
    sums: dict[str, Any] = {name: sum(entry.get(name, 0) for entry in entries) for name in _COUNTED}
    usage = UsageSums()
    for entry in entries:
        usage.add_all(entry.get("usage") or [])
    totals = [entry.get("total") for entry in entries]
    is_exact = rows is not None or (not not_begun and all(entry.get("total_is_exact") for entry in entries))
    if rows is None and totals and None not in totals:
        known = sum(total for total in totals if total is not None)
        rows = known if not not_begun else round(known * (len(entries) + not_begun) / len(entries))
    running = [entry for entry in entries if entry.get("status") in LIVE]
    return NodeReport(
        node_id=node_id,
        status=_status([Status(entry["status"]) for entry in entries], not_begun),
        total=rows,
        total_is_exact=is_exact and rows is not None,
        rows_per_second=round(sum(entry.get("rows_per_second", 0.0) for entry in running), 3),
        seconds=max((entry.get("seconds", 0.0) for entry in entries), default=0.0),
        usage=usage.as_list(),
        stalled=next((entry["stalled"] for entry in running if entry.get("stalled")), None),
        error=next((entry["error"] for entry in entries if entry.get("error")), None),
        **sums,
    )


def _status(found: Sequence[Status], not_begun: int) -> Status:
    """Return the status of a node over all shards: what is still going on, else the worst end."""
    for status in (Status.CANCELING, Status.RUNNING, Status.RESUMING):
        if status in found:
            return status
    for status in (Status.FAILED, Status.STOPPED, Status.CANCELED):
        if status in found:
            return status
    is_over = not not_begun and set(found) <= SETTLED
    if is_over:
        return Status.COMPLETED if Status.COMPLETED in found or not found else Status.UNNEEDED
    return Status.PENDING if not found or set(found) == {Status.PENDING} else Status.RUNNING
