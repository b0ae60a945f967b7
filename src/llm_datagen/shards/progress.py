"""How far a run in shards is: the reports of the nodes of all shards, added up to those of one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from llm_datagen.runs.rate import mean_rate
from llm_datagen.runs.status import LIVE, SETTLED, NodeReport, Status
from llm_datagen.runs.usage import UsageSums

_COUNTED = (
    "rows_in", "rows_out", "filtered", "rejected", "skipped", "dead_letters", "failed", "beyond_target", "cut_rows",
    "workers", "in_flight", "queued", "busy_s", "held_back_s", "held_back_times", "rate_limited_s", "lead_limited_s",
    "starved_s", "starved_times",
)  # fmt: skip
"""What adds up."""


def added_up(
    node_id: str, entries: Sequence[Mapping[str, Any]], *, not_begun: int, rows: int | None, seconds: float
) -> NodeReport:
    """Return the report of a node over all shards.

    Args:
        node_id: the node.
        entries: its reports in the shards that have begun, as run states have them.
        not_begun: how many shards have not.
        rows: how many rows it has to do in all; None when that is known when all shards know it.
        seconds: in which some shard ran; see `seconds_of`.
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
        rows_per_second=round(
            sum(entry.get("rows_per_second", 0.0) for entry in running)
            if running
            else mean_rate(sums["rows_in"], seconds),
            3,
        ),
        seconds=max((entry.get("seconds", 0.0) for entry in entries), default=0.0),
        usage=usage.as_list(),
        stalled=next((entry["stalled"] for entry in running if entry.get("stalled")), None),
        outage=next((entry["outage"] for entry in running if entry.get("outage")), None),
        error=next((entry["error"] for entry in entries if entry.get("error")), None),
        **sums,
    )


def seconds_of(run_states: Iterable[Mapping[str, Any]]) -> float:
    """Return the seconds in which some shard ran: shards that ran at once count once, and pauses between them do not.

    Args:
        run_states: those of the shards that have begun.
    """
    spans = []
    for state in run_states:
        began, ended = state.get("started_at"), state.get("ended_at") or state.get("updated_at")
        if began and ended:
            spans.append((datetime.fromisoformat(began).timestamp(), datetime.fromisoformat(ended).timestamp()))
    seconds, last = 0.0, float("-inf")
    for began, ended in sorted(spans):
        seconds += max(0.0, ended - max(began, last))
        last = max(last, ended)
    return seconds


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
