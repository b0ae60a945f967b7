"""Usage that a process had not saved when it was killed: of how many rows it is, so that the rest is known per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.pipeline.stream_reset import Entry
from llm_datagen.runs.status import Status
from llm_datagen.runs.usage import is_short, may_be_short

ROWS_UNTOLD = "rows_untold"
"""The key of a node for how many of its rows a process had committed, but not saved their usage, when it was killed."""


def was_killed(run_state: Mapping[str, object]) -> bool:
    """Return whether the last process of a run, which no process has now, was killed."""
    return run_state["status"] in {Status.RUNNING, Status.CANCELING}


def note_lost_usage(before: Entry, run_state: Entry, done: Mapping[str, int]) -> None:
    """Note in a run state what a process that was killed has not saved; else nothing.

    Args:
        before: the run state as that process has saved it.
        run_state: the run state now.
        done: how many source rows each node has done, as the streams say.
    """
    if not was_killed(before):
        return
    run_state["usage_is_partial"] = True
    if is_untold(before):
        return
    saved = {entry["node_id"]: entry for entry in before["nodes"]}
    for entry in run_state["nodes"]:
        old = saved.get(entry["node_id"])
        if old is None or not all(map(may_be_short, old.get("usage") or ())):
            continue  # what jobs have used is in their job logs
        lost = max(0, done[entry["node_id"]] - old.get("rows_in", 0))
        entry[ROWS_UNTOLD] = old.get(ROWS_UNTOLD, 0) + lost


def is_untold(run_state: Mapping[str, Any]) -> bool:
    """Return whether usage is missing, and nobody knows of how many rows: an earlier version has resumed the run."""
    return is_short(run_state) and not any(ROWS_UNTOLD in entry for entry in run_state["nodes"])
