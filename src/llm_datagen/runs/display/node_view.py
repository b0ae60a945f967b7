"""A node as it is shown, from hooks or from a run state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.runs.outage import outage_in_words
from llm_datagen.runs.status import INTERRUPTED, LIVE, Status
from llm_datagen.runs.usage import TOKEN_NAMES, cost_of, tokens_of

ETA_AFTER_SECONDS = 3.0
"""So long a node runs before it is said how long it will take: until then its speed is that of its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node, as it is shown.

    Attributes:
        node_id: its id.
        operator: its operator's identity.
        status: its status.
        done: source rows that are done.
        out: rows in its output.
        target: rows that its output is to have; None without a target.
        beyond: source rows that were in a call when the target was met.
        cut: output rows that were beyond the target.
        total: source rows in all; None while nothing is known.
        is_exact: whether `total` is counted, not estimated.
        rate: source rows per second: over the last seconds while it runs, else over the run in which it ended.
        paused: whether its run is paused.
        filtered: source rows that gave no row.
        rejected: for how many of these the operator gave a reason.
        failed: source rows that failed: these two, and the one that ended the run.
        skipped: those that were left out.
        dead: those that are dead-lettered.
        tokens: tokens used, over all runs.
        cost: US dollars, over all runs; None when no price is known.
        seconds: how long it ran, in this run.
        lead_limited_s: seconds in which `max_lead` held rows back, in this run.
        stalled: how long nothing has moved, and what it waits for; empty unless it is stalled.
        outage: for which endpoints its calls wait, and why; empty while some endpoint answers.
        warning: the last warning of its operator, until rows are done again.
    """

    node_id: str
    operator: str = ""
    status: str = Status.PENDING
    done: int = 0
    out: int = 0
    target: int | None = None
    beyond: int = 0
    cut: int = 0
    total: int | None = None
    is_exact: bool = False
    rate: float = 0.0
    paused: bool = False
    filtered: int = 0
    rejected: int = 0
    failed: int = 0
    skipped: int = 0
    dead: int = 0
    tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0
    lead_limited_s: float = 0.0
    stalled: str = ""
    outage: str = ""
    warning: str = ""

    @property
    def pending(self) -> int | None:
        """Source rows that are not done; None until the source was counted to its end."""
        return max(0, self.total - self.done) if self.total is not None and self.is_exact else None

    @property
    def stopped_by(self) -> str:
        """Why nothing moves, in words: an outage is what a stall comes of. Empty while rows move."""
        return self.outage or (f"stalled: {self.stalled}" if self.stalled else "")

    @property
    def share(self) -> float | None:
        """How much of it is done, from 0 to 1; None if not known."""
        if self.status in {Status.COMPLETED, Status.UNNEEDED}:
            return 1.0
        done = [0.0] if self.status == Status.PENDING else []
        done += [] if self.total is None else [self.done / self.total if self.total else 0.0]
        done += [self.out / self.target] if self.target else []
        return min(1.0, max(done)) if done else None

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds are left; None if not known, and in the first seconds of a run."""
        if self.rate <= 0 or self.status != Status.RUNNING or self.paused or self.seconds < ETA_AFTER_SECONDS:
            return None
        left: list[float] = [] if self.total is None else [self.total - self.done]
        if self.target is not None and self.out:
            left.append((self.target - self.out) * self.done / self.out)
        return max(0.0, min(left)) / self.rate if left else None


def node_views(run_state: Mapping[str, Any], status: str) -> list[NodeView]:
    """Return the nodes of a run.

    Args:
        run_state: the run state of the run; of one in shards, that of the whole.
        status: its true status, as `runs.seen` sees it.
    """
    nodes = run_state.get("nodes", [])
    if status == INTERRUPTED:
        nodes = [{**node, "status": INTERRUPTED} if node["status"] in LIVE else node for node in nodes]
    return [view_of(node, paused=bool(run_state.get("paused"))) for node in nodes]


def view_of(node: Mapping[str, Any], *, paused: bool = False) -> NodeView:
    """Return the view of a node in a run state.

    Args:
        node: its entry.
        paused: whether its run is paused.
    """
    is_running = node.get("status") == Status.RUNNING
    return NodeView(
        node_id=node["node_id"],
        operator=node.get("operator", ""),
        status=node.get("status", Status.PENDING),
        done=node.get("rows_in", 0),
        out=node.get("rows_out", 0),
        target=node.get("target_rows"),
        beyond=node.get("beyond_target", 0),
        cut=node.get("cut_rows", 0),
        total=node.get("total"),
        is_exact=node.get("total_is_exact", False),
        rate=node.get("rows_per_second", 0.0),
        paused=is_running and paused,
        filtered=node.get("filtered", 0),
        rejected=node.get("rejected", 0),
        failed=node.get("failed", 0),
        skipped=node.get("skipped", 0),
        dead=node.get("dead_letters", 0),
        tokens=sum(map(tokens_in, node.get("usage") or [])),
        cost=cost_of(node.get("usage") or []),
        seconds=node.get("seconds", 0.0),
        lead_limited_s=node.get("lead_limited_s", 0.0),
        stalled=(is_running and node.get("stalled")) or "",
        outage=outage_in_words(node["outage"]) if is_running and node.get("outage") else "",
    )


def tokens_in(usage: Mapping[str, Any]) -> int:
    """Return the tokens that a usage report counts."""
    totals = [value for key, value in usage.items() if key.endswith("total_tokens")]
    if not totals:
        totals = [tokens_of(usage, kind) or 0 for kind in TOKEN_NAMES]
    return int(sum(totals))
