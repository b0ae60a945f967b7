"""The state of a display: one view per node, from what the hooks report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.runs.display.lines import shards_in_words
from llm_datagen.runs.display.node_view import NodeView, tokens_in
from llm_datagen.runs.display.tables import one_line
from llm_datagen.runs.hooks import DefaultPipelineHooks
from llm_datagen.runs.outage import outage_in_words
from llm_datagen.runs.rate import RateWindow, mean_rate
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.status import ENDED, Status
from llm_datagen.runs.usage import cost_of
from llm_datagen.runs.words import rows_in_words

_WARNING_CHARS = 300


@dataclass(slots=True)
class _Entry:
    """A node that is watched."""

    view: NodeView
    started: float | None = None
    first: int = 0
    """Rows that were done when it started."""
    told: str = ""
    """Its status by the last report of its progress: it tells a cancel from a stop."""
    window: RateWindow | None = None
    """What its rate goes by, once it has started."""

    def start(self, now: float) -> None:
        self.started, self.first = now, self.view.done
        self.window = RateWindow(now, self.view.done)

    def sample(self, now: float, done: int) -> None:
        if self.window is not None:
            self.window.add(now, done)

    def at(self, now: float) -> NodeView:
        if self.view.status != Status.RUNNING or self.started is None or self.window is None:
            return self.view
        return replace(self.view, seconds=now - self.started, rate=self.window.rate(now))

    def end(self, now: float) -> None:
        if self.started is None:
            return
        seconds, rows = now - self.started, self.view.done - self.first
        rate = mean_rate(rows, seconds) if rows > 0 else self.view.rate  # else that of the run before
        self.view = replace(self.view, seconds=seconds, rate=rate)


class DisplayModel(DefaultPipelineHooks):
    """Hooks that record what a display shows. They are called on one thread; `views` may be called from any.

    Args:
        nodes: the nodes before the run, if known.
        clock: seconds that only grow.
    """

    shows_warnings = True

    def __init__(self, nodes: Iterable[NodeView] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._guard = threading.Lock()
        self._entries = {node.node_id: _Entry(node) for node in nodes}
        self.shards = ""
        """How many shards of the run are done, and how many run; empty when it has none."""

    def views(self) -> list[NodeView]:
        """Return the nodes as they are now."""
        now = self.clock()
        with self._guard:
            return [entry.at(now) for entry in self._entries.values()]

    def view(self, nid: str) -> NodeView:
        """Return a node as it is now."""
        with self._guard:
            return self._entry(nid).at(self.clock())

    def _entry(self, nid: str) -> _Entry:
        return self._entries.setdefault(nid, _Entry(NodeView(node_id=nid)))

    # Hooks.

    def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
        """Take the nodes from the configuration, unless they are known."""
        with self._guard:
            if not self._entries:
                for number, operator in enumerate(config.get("operators", ())):
                    self._entry(f"node_{number}").view = NodeView(node_id=f"node_{number}", operator=str(operator))

    def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
        """Begin to count."""
        with self._guard:
            entry = self._entry(nid)
            operator = str(config.get("operator", entry.view.operator))
            failed = entry.view.skipped + entry.view.dead  # the end of an earlier run does not count
            entry.view = replace(
                entry.view, status=Status.RUNNING, operator=operator, failed=failed, stalled="", warning=""
            )
            entry.start(self.clock())

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Keep the counts."""
        with self._guard:
            entry = self._entry(nid)
            entry.told = str(meta.get("status", ""))
            # Of a node that has finished in an earlier run, or does not begin in this one, this is all that is heard.
            is_over = entry.started is None and entry.view.status == Status.PENDING
            entry.view = replace(
                entry.view,
                status=(entry.told or Status.COMPLETED) if is_over else entry.view.status,
                rate=meta.get("rows_per_second", entry.view.rate) if is_over else entry.view.rate,
                done=curr,
                out=meta.get("rows_out", 0),
                target=meta.get("target_rows"),
                beyond=meta.get("beyond_target", 0),
                cut=meta.get("cut_rows", 0),
                total=total,
                is_exact=bool(meta.get("total_is_exact")),
                filtered=meta.get("filtered", 0),
                rejected=meta.get("rejected", 0),
                failed=meta.get("failed", 0),
                skipped=meta.get("skipped", 0),
                dead=meta.get("dead_letters", 0),
                outage=outage_in_words(outage) if (outage := meta.get("outage")) else "",
                stalled=entry.view.stalled if curr == entry.view.done else "",
                warning=entry.view.warning if curr == entry.view.done else "",
            )
            entry.sample(self.clock(), curr)
            if (shards := meta.get(SHARDS)) is not None:  # its usage is the sum of what the shards have saved
                self.shards = shards_in_words(shards)
                usage = meta.get("usage") or []
                entry.view = replace(entry.view, tokens=sum(map(tokens_in, usage)), cost=cost_of(usage))

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        """Record how it ended."""
        with self._guard:
            entry = self._entry(nid)
            ended = entry.told if entry.told in {*ENDED, Status.UNNEEDED} else Status.STOPPED
            status = Status.COMPLETED if success else ended if error is None else Status.FAILED
            entry.end(self.clock())
            entry.view = replace(entry.view, status=status, stalled="", outage="", warning="")

    def on_stall(self, cid: str, nid: str, info: Mapping[str, Any]) -> None:
        """Record a stall, until rows are done again."""
        seconds = info["seconds"]
        text = f"nothing has moved for {seconds:.{0 if seconds >= 10 else 1}f} s; waits on {info['waits_on']}"
        if info["in_flight"]:
            text += f"; {rows_in_words(info['in_flight'])} in flight: {', '.join(map(str, info['ids']))}"
        with self._guard:
            entry = self._entry(nid)
            entry.view = replace(entry.view, stalled=text)

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        """Record a warning, until rows are done again."""
        if level == "warning":
            with self._guard:
                entry = self._entry(nid)
                entry.view = replace(entry.view, warning=one_line(message, _WARNING_CHARS))

    def on_usage(self, cid: str, nid: str, provider: str, model: str, metrics: Mapping[str, float]) -> None:
        """Add tokens and cost. Of a run in shards, they come with the progress."""
        if self.shards:
            return
        with self._guard:
            entry = self._entry(nid)
            cost = cost_of([metrics])
            if cost is not None:
                cost += entry.view.cost or 0.0
            entry.view = replace(
                entry.view,
                tokens=entry.view.tokens + tokens_in(metrics),
                cost=entry.view.cost if cost is None else cost,
            )
