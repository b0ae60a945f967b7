"""What hooks tell of a run, kept for a display: one view a node."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.hooks import DefaultPipelineHooks
from llm_datagen.report import Status

RATE_SECONDS = 15.0
"""Rates are over so many of the last seconds."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node, as it is shown.

    Attributes:
        node_id: its id.
        operator: its operator's identity.
        status: its status.
        done: source rows that are done.
        total: source rows in all; None while nothing is known.
        is_exact: whether `total` is counted, not estimated.
        rate: source rows a second.
        filtered: source rows that gave no row.
        failed: operator failures.
        tokens: tokens used, over all runs.
        seconds: how long it ran, in this run.
    """

    node_id: str
    operator: str = ""
    status: str = Status.PENDING
    done: int = 0
    total: int | None = None
    is_exact: bool = False
    rate: float = 0.0
    filtered: int = 0
    failed: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """About how many seconds it will go on; None while that is not known."""
        if self.total is None or self.rate <= 0 or self.status != Status.RUNNING:
            return None
        return max(0, self.total - self.done) / self.rate


def view_of(node: Mapping[str, Any]) -> NodeView:
    """Return the view of a node of an image."""
    return NodeView(
        node_id=node["node_id"],
        operator=node.get("operator", ""),
        status=node.get("status", Status.PENDING),
        done=node.get("rows_in", 0),
        total=node.get("total"),
        is_exact=node.get("total_is_exact", False),
        rate=node.get("rows_per_second", 0.0),
        filtered=node.get("filtered", 0),
        failed=node.get("failed", 0),
        tokens=sum(map(tokens_in, node.get("usage") or [])),
        seconds=node.get("seconds", 0.0),
    )


def tokens_in(usage: Mapping[str, Any]) -> int:
    """Return the tokens that a usage report counts."""
    totals = [value for key, value in usage.items() if key.endswith("total_tokens")]
    if not totals:
        names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
        totals = [value for key, value in usage.items() if key in names]
    return round(sum(totals))


class Board(DefaultPipelineHooks):
    """Hooks that keep what they hear. Hooks are called on one thread; `views` may be called from any.

    Args:
        nodes: the nodes as they are before the run, those of an image.
        clock: seconds that only grow.
    """

    def __init__(self, nodes: Iterable[NodeView] = (), *, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self._guard = threading.Lock()
        self._nodes = {node.node_id: node for node in nodes}
        self._started: dict[str, float] = {}
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def views(self) -> list[NodeView]:
        """Return the nodes as they are now."""
        now = self.clock()
        with self._guard:
            return [self._timed(node, now) for node in self._nodes.values()]

    def _timed(self, node: NodeView, now: float) -> NodeView:
        if node.status != Status.RUNNING:
            return node
        seconds = now - self._started[node.node_id]
        since, was = self._samples[node.node_id][0]
        return replace(node, seconds=seconds, rate=(node.done - was) / max(now - since, 1e-3))

    def _change(self, nid: str, **changes: Any) -> NodeView:
        with self._guard:
            node = replace(self._nodes.get(nid, NodeView(node_id=nid)), **changes)
            self._nodes[nid] = node
            return node

    # Hooks.

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Learn which nodes there are, if nobody has told."""
        if not self._nodes:
            for number, operator in enumerate(config.get("operators", ())):
                self._change(f"node_{number}", operator=str(operator))

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """Begin to count."""
        now = self.clock()
        with self._guard:
            done = self._nodes[nid].done if nid in self._nodes else 0
            self._started[nid] = now
            self._samples[nid] = deque([(now, done)])
        self._change(nid, status=Status.RUNNING, operator=str(config.get("operator", "")), failed=0)

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Keep the counts."""
        now = self.clock()
        with self._guard:
            samples = self._samples.setdefault(nid, deque([(now, curr)]))
            self._started.setdefault(nid, now)
            samples.append((now, curr))
            while len(samples) > 2 and now - samples[1][0] > RATE_SECONDS:
                samples.popleft()
        self._change(
            nid,
            done=curr,
            total=total,
            is_exact=bool(meta.get("total_is_exact")),
            filtered=meta.get("filtered", 0),
            failed=meta.get("failed", 0),
        )

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """Keep how it ended."""
        seconds = self.clock() - self._started.get(nid, self.clock())
        with self._guard:
            since_start = self._nodes[nid].done - self._first(nid) if nid in self._nodes else 0
        status = Status.COMPLETED if success else Status.CANCELED if error is None else Status.FAILED
        self._change(nid, status=status, seconds=seconds, rate=since_start / max(seconds, 1e-3))

    def on_usage(self, cid: str, nid: str, provider: str, model: str, metrics: Mapping[str, float]) -> None:
        """Count the tokens."""
        with self._guard:
            before = self._nodes[nid].tokens if nid in self._nodes else 0
        self._change(nid, tokens=before + tokens_in(metrics))
