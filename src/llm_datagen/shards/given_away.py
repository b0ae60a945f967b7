"""Rows that a shard gives away while it runs: it ends earlier than planned, and they are a new shard.

The shard notes its new end in its run state first. Then the plan is split there. Whoever reads a plan follows those
notes; so whatever is killed in between, each row is in one shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.shards.plan import Cut, ShardPlan, ShardRange
from llm_datagen.streams.inputs.part import INPUT_END, PROTOCOL, Part

Entry = Mapping[str, Any]


def noted_cut(plan: ShardPlan, number: int, run_state: Mapping[str, Any]) -> Cut | None:
    """Return where a plan is to be split, as a shard has noted it; None when it is split there, or nothing is noted."""
    entry = _reader(run_state["nodes"])
    noted = None if entry is None else entry.get(INPUT_END)
    if noted is None or noted[0] >= plan.range_of(number).last.row:
        return None
    row, at = noted
    return next((cut for cut in plan.cuts if cut.row == row), Cut(row, at))


def followed(plan: ShardPlan, number: int, run_state: Mapping[str, Any]) -> ShardPlan:
    """Return a plan that is split where a shard has noted it; the plan itself when it is, or nothing is noted."""
    cut = noted_cut(plan, number, run_state)
    return plan if cut is None else plan.split(number, cut)


def end_with(run_state: dict[str, Any], planned: ShardRange) -> None:
    """Have a shard that begins again end where its range does, if that is earlier than it has noted.

    The plan is always on the medium; a run state with ``fsync="never"`` may lose its note with the power.
    """
    entry = _reader(run_state["nodes"])
    if entry is not None:
        row, _ = entry.get(INPUT_END) or Part.parse(entry["input_uri"]).last
        if planned.last.row < row:
            entry[INPUT_END] = [planned.last.row, planned.last.at]


def keep_input(known: Sequence[Entry], drawn: Sequence[dict[str, Any]]) -> None:
    """Have the steps of a shard that were drawn anew read what they read before: the same URI, and the noted end."""
    before, now = _reader(known), _reader(drawn)
    if before is not None and now is not None:
        now["input_uri"] = before["input_uri"]
        if INPUT_END in before:
            now[INPUT_END] = before[INPUT_END]


def _reader(entries: Sequence[Any]) -> Any:
    """Return the node that reads the input of a shard; None when several do: such a shard gives nothing away."""
    found = [entry for entry in entries if entry["input_uri"].startswith(PROTOCOL)]
    return found[0] if len(found) == 1 else None
