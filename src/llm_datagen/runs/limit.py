"""What limits a run, in one plain sentence, by its run state: while it runs, and afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from llm_datagen.runs.display.node_view import view_of
from llm_datagen.runs.logs.bottleneck import NodeSummary, bottleneck_of
from llm_datagen.runs.outage import endpoints_in_words
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.status import LIVE, Status

LIMIT_AFTER_SECONDS = 3.0
"""So long a node runs before anything is said: until then, its start is most of its time."""

PAUSED = "paused: no call begins until it is unpaused"

_FIGURES = [field.name for field in fields(NodeSummary) if field.name != "is_exact"]


def limit_of(run_state: Mapping[str, Any], *, is_live: bool) -> str:
    """Return what limits a run.

    Args:
        run_state: its run state; of a run in shards, that of the whole.
        is_live: whether a process runs it.

    Returns:
        A sentence without a full stop, on one line; empty while nothing can be said: in the first seconds, before a
        first call has ended, and of a run whose process was killed.
    """
    entries = [entry for entry in run_state.get("nodes", ()) if entry.get("seconds", 0.0) > 0]
    running = [entry for entry in entries if entry.get("status") in LIVE]
    if is_live and run_state.get("paused"):
        return PAUSED
    if is_live and (down := next((entry for entry in running if entry.get("outage")), None)) is not None:
        return f"{down['node_id']} limits: no endpoint answers its calls ({endpoints_in_words(down['outage'])})"
    if is_live and (stalled := next((entry for entry in running if entry.get("stalled")), None)) is not None:
        return f"{stalled['node_id']} is stalled: {stalled['stalled']}"
    if running and not is_live:
        return ""
    if is_live and not run_state.get("config", {}).get("streaming", True):
        entries = running  # one after the other: those before it limit no more
    if not any(_tells(entry) for entry in entries):
        return ""
    shards = shards_begun(run_state)
    left = {entry["node_id"]: shards * (view_of(entry).seconds_left or 0.0) for entry in running}
    return bottleneck_of(tuple(time_spent(entry, shards) for entry in entries), left)


def _tells(entry: Mapping[str, Any]) -> bool:
    """Return whether a node ran long enough, and its workers or its rate have done something."""
    spent = (entry.get(name) for name in ("busy_s", "held_back_s", "rate_limited_s", "lead_limited_s", "starved_s"))
    return entry.get("seconds", 0.0) >= LIMIT_AFTER_SECONDS and (entry.get("status") == Status.COMPLETED or any(spent))


def time_spent(entry: Mapping[str, Any], shards: int) -> NodeSummary:
    """Return where the time of a node went.

    Args:
        entry: its entry in the run state.
        shards: how many shards have begun; 1 of a run that is not in shards.
    """
    known = {name: entry[name] for name in _FIGURES if entry.get(name) is not None}
    # Of shards, the times are sums; the seconds are those of the longest, and the workers are all together.
    times = {"seconds": known["seconds"] * shards, "workers": round(known.get("workers", 0) / shards)}
    return NodeSummary(**{**known, **times}, is_exact=True)


def shards_begun(run_state: Mapping[str, Any]) -> int:
    """Return how many shards of a run have begun; 1 of a run that is not in shards."""
    return max(1, sum(1 for each in run_state.get(SHARDS, {}).get("each", ()) if each["run"]))
