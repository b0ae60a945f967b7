"""The state of one node as the supervisor knows it: the source of the run state, hooks and status."""

from __future__ import annotations

from typing import Any

from llm_datagen.actors.clock import Clock
from llm_datagen.messages import (
    NodeProgressed,
    OutageNoted,
    RowsCommitted,
    SourceSized,
    TimeSpent,
    UsageReported,
    UsageTotal,
)
from llm_datagen.runs.outage import OutageReport
from llm_datagen.runs.rate import RateWindow, mean_rate
from llm_datagen.runs.status import ENDED, SETTLED, NodeReport, Status
from llm_datagen.runs.usage import UsageSums
from llm_datagen.streams.position import Position
from llm_datagen.streams.target_mark import TargetMark


class NodeState:
    """One node's state.

    Args:
        node_id: its id.
        saved: what the saved run state says of it (totals and usage of earlier runs).
        clock: what times go by.
        target: rows that its output is to have.
    """

    def __init__(self, node_id: str, saved: dict[str, Any], clock: Clock, target: int | None = None) -> None:
        self._clock = clock
        self._target = target
        self.node_id = node_id
        self.status = Status.PENDING
        self.error: str | None = None
        self.failed = 0
        self.stalled: str | None = None
        self._outages: dict[str, OutageReport] = {}
        self.source_total: int | None = None
        self.source_is_exact = False
        self.last: RowsCommitted | None = None
        self._rows_in = int(saved.get("rows_in", 0))
        self._rows_out = int(saved.get("rows_out", 0))
        self._filtered, self._rejected = int(saved.get("filtered", 0)), int(saved.get("rejected", 0))
        self._skipped = int(saved.get("skipped", 0))
        self._dead = int(saved.get("dead_letters", 0))
        self._losses = TargetMark()
        self._usage = UsageSums(saved.get("usage") or [])
        self._time_spent: dict[str, Any] = {}
        self._rows_before = self._rows_in  # when this run began
        self._started: float | None = None
        self._ended: float | None = None
        self._rate_before = float(saved.get("rows_per_second", 0.0))
        self._window: RateWindow | None = None

    def start(self, position: Position) -> None:
        """The node begins, at `position`."""
        self.status = Status.RUNNING
        self._stand_at(position)
        self._started = self._clock.monotonic()
        self._window = RateWindow(self._started, self._rows_in)

    def finished_before(self, position: Position) -> None:
        """The node has finished in an earlier run."""
        self.status = Status.COMPLETED
        self._stand_at(position)
        if self._losses.rows is None:  # else there may be more
            self.source_total, self.source_is_exact = self._rows_in, True

    def is_not_needed(self, position: Position) -> None:
        """The node does not run: nobody needs what it has not done."""
        self.status = Status.UNNEEDED
        self._stand_at(position)

    def _stand_at(self, position: Position) -> None:
        # Where the stream stands is right, whatever the run state said (R1).
        self._rows_in = self._rows_before = position.coverage.rows
        self._rows_out, self._filtered = position.rows, position.filtered
        self._rejected = position.rejected
        self._skipped, self._dead = position.skipped, position.dead
        self._losses = TargetMark.of(position.marks)

    def end(self, status: Status) -> None:
        """The node has ended."""
        self.status = status
        self.stalled = None
        self._outages.clear()
        self._time_spent.update(in_flight=0, queued=0)
        self._ended = self._clock.monotonic()

    def committed(self, message: RowsCommitted) -> None:
        """Rows were committed."""
        self.last = message
        self.stalled = None
        self._rows_in, self._rows_out, self._filtered = message.done, message.rows_out, message.filtered
        self._rejected, self._skipped, self._dead = message.rejected, message.skipped, message.dead
        self._losses = TargetMark(beyond=message.beyond, cut=message.cut)
        if self._window is not None:
            self._window.add(self._clock.monotonic(), message.done)

    def sized(self, message: SourceSized) -> None:
        """Something is known of the source's size."""
        if message.is_exact or not self.source_is_exact:
            self.source_total, self.source_is_exact = message.total, message.is_exact

    def used(self, message: UsageReported) -> None:
        """An operator reported usage."""
        self._usage.add(message.provider, message.model, message.metrics)

    def outage_noted(self, message: OutageNoted) -> None:
        """Calls wait for endpoints, or go on."""
        if message.outage is None:
            self._outages.pop(message.pool, None)
        elif self.status is Status.RUNNING:
            self._outages[message.pool] = message.outage

    @property
    def outage(self) -> OutageReport | None:
        """The outage that has lasted longest; None while there is none."""
        return next(iter(self._outages.values()), None)

    def new_of(self, message: UsageTotal) -> dict[str, float]:
        """Return what is new of what was used in all."""
        return self._usage.new_of(message.provider, message.model, message.metrics)

    def spent(self, message: TimeSpent) -> None:
        """The node's time went so, until now."""
        self._time_spent.update(message.figures)

    def expected_rows_out(self) -> float | None:
        """Return about how many rows the node will have written in the end; None while nothing tells.

        It is never less than it has written, nor more than its target. An operator of which nothing came yet may be one
        that gives all of its rows at the end.
        """
        if self.status in ENDED:
            return self._rows_out
        total, target = self.source_total, self._target
        expected: float | None = None
        if total is not None and self._rows_out:
            expected = max(total, self._rows_in) * self._rows_out / self._rows_in if self._rows_in else None
        if target is not None:
            expected = target if expected is None else min(expected, target)
        return None if expected is None else max(expected, self._rows_out)

    def _rate(self, now: float, seconds: float) -> float:
        """Return the rows per second: over the last seconds while it runs, over its run at the end.

        Of a node that did nothing in this run, it is that of the run before.
        """
        if self._window is None or self._started is None:
            return self._rate_before if self.status in SETTLED else 0.0
        if self._ended is None:
            return self._window.rate(now)
        rows = self._rows_in - self._rows_before
        return mean_rate(rows, seconds) if rows > 0 else self._rate_before

    def report(self) -> NodeReport:
        """Return the state as it is now."""
        now = self._clock.monotonic()
        seconds = 0.0 if self._started is None else (self._ended or now) - self._started
        total = self.source_total
        return NodeReport(
            node_id=self.node_id,
            status=self.status,
            rows_in=self._rows_in,
            rows_out=self._rows_out,
            filtered=self._filtered,
            rejected=self._rejected,
            skipped=self._skipped,
            dead_letters=self._dead,
            failed=self._skipped + self._dead + self.failed,
            target_rows=self._target,
            **self._losses.losses(),
            total=None if total is None else max(total, self._rows_in),
            total_is_exact=self.source_is_exact,
            rows_per_second=round(self._rate(now, seconds), 3),
            seconds=round(seconds, 3),
            **self._time_spent,
            usage=self._usage.as_list(),
            stalled=self.stalled,
            outage=self.outage,
            error=self.error,
        )

    def progress(self, pipeline_id: str) -> NodeProgressed:
        """Return how far the node is, for subscribers."""
        report = self.report()
        meta = {
            "rows_out": report.rows_out,
            "filtered": report.filtered,
            "rejected": report.rejected,
            "failed": report.failed,
            "skipped": report.skipped,
            "dead_letters": report.dead_letters,
            "rows_per_second": report.rows_per_second,
            "target_rows": report.target_rows,
            "beyond_target": report.beyond_target,
            "cut_rows": report.cut_rows,
            "total_is_exact": report.total_is_exact,
            "outage": report.outage,
            "status": report.status,
        }
        return NodeProgressed(pipeline_id, report.node_id, report.rows_in, report.total, meta)

    def checkpoint(self, input_uri: str, output_uri: str) -> dict[str, Any]:
        """Return the node's position for checkpoint.json."""
        last = self.last
        return {
            "input": {
                "uri": input_uri,
                "row": last.resume_row if last else None,
                "offset": last.resume_offset if last else None,
                "rows_done_beyond": last.done_beyond if last else None,
                "rows_in_flight": last.holes if last else None,
            },
            "output": {
                "uri": output_uri,
                "rows": last.rows_out if last else None,
                "bytes": last.bytes_out if last else None,
            },
        }
