"""How far a run is, as a whole. All that show runs show this: the command line, the web page, reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llm_datagen.runs.display.node_view import NodeView, node_views
from llm_datagen.runs.limit import limit_of
from llm_datagen.runs.output_node import RowsOut, outputs_to_name
from llm_datagen.runs.status import SETTLED, Status
from llm_datagen.runs.usage import cost_of


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How far a run is.

    Attributes:
        nodes: its nodes.
        rows_done: rows of the first node's source that are done.
        out: how many rows have come out, and of which nodes.
        rows_total: rows of the first node's source in all; None while nothing is known.
        total_is_exact: whether that is counted, not estimated.
        share: how much of the run is done, from 0 to 1; None while that is not known. It is that of the node that is
            furthest behind; where one node runs after the other, the mean of all.
        rows_per_second: source rows per second of the node that has most time left; of the first one that runs while
            that is not known, and of the first one when none runs.
        seconds_left: about how many seconds are left; None if not known: also while nodes wait for others to end.
        failed: rows that failed, over all nodes.
        cost: US dollars, over all runs; None when no price is known.
        limit: what limits it, in a sentence; empty while nothing can be said.
    """

    nodes: tuple[NodeView, ...]
    rows_done: int
    out: RowsOut
    rows_total: int | None
    total_is_exact: bool
    share: float | None
    rows_per_second: float
    seconds_left: float | None
    failed: int
    cost: float | None
    limit: str

    @classmethod
    def of(cls, run_state: Mapping[str, Any], status: str, *, is_live: bool) -> RunProgress:
        """Return how far a run is.

        Args:
            run_state: its run state; of a run in shards, that of the whole. Empty for a run that cannot be read.
            status: its true status, as `runs.seen` sees it.
            is_live: whether a process runs it.
        """
        nodes = tuple(node_views(run_state, status))
        first = nodes[0] if nodes else NodeView(node_id="")
        running = [node for node in nodes if node.status == Status.RUNNING]
        slowest = max(running, key=lambda node: node.seconds_left or 0.0, default=first)
        return cls(
            nodes=nodes,
            rows_done=first.done,
            out=RowsOut({node.node_id: node.out for node in nodes}, outputs_to_name(run_state)),
            rows_total=first.total,
            total_is_exact=first.is_exact,
            share=_share(nodes, streaming=run_state.get("config", {}).get("streaming", True)),
            rows_per_second=slowest.rate,
            seconds_left=_seconds_left(nodes) if is_live else None,
            failed=sum(node.failed for node in nodes),
            cost=cost_of(run_state.get("usage") or []),
            limit=limit_of(run_state, is_live=is_live),
        )


def _share(nodes: tuple[NodeView, ...], *, streaming: bool) -> float | None:
    """Return how much of a run is done; None while a node cannot tell."""
    found = [node.share for node in nodes]
    known = [share for share in found if share is not None]
    if not known or len(known) < len(found):
        return None
    return min(known) if streaming else sum(known) / len(known)


def seconds_of(run_state: Mapping[str, Any], *, is_live: bool) -> float | None:
    """Return how long the last execution of a run took, or has taken so far; None when none has begun."""
    began, ended = run_state.get("started_at"), None if is_live else run_state.get("ended_at")
    until = ended or run_state.get("updated_at")
    if not began or not until:
        return None
    return max(0.0, (datetime.fromisoformat(until) - datetime.fromisoformat(began)).total_seconds())


def _seconds_left(nodes: tuple[NodeView, ...]) -> float | None:
    """Return the time of the node that takes longest; None when one is not running yet, or cannot tell."""
    found = [node.seconds_left for node in nodes if node.status not in SETTLED]
    known = [seconds for seconds in found if seconds is not None]
    return max(known) if known and len(known) == len(found) else None
