"""From events to a summary: several runs, of several processes, whole or not."""

from __future__ import annotations

import os
from dataclasses import fields
from datetime import datetime
from typing import Any

from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.bottleneck import LoggedState, LogSummary, NodeSummary, RunSummary, bottleneck_of
from llm_datagen.runs.logs.reader import LogEvent, read

_FIGURES = {field.name for field in fields(NodeSummary)} - {"node_id", "is_exact", "rate"}


def summary(
    path: str | os.PathLike[str], *, pipeline_id: str | None = None, since: datetime | None = None
) -> LogSummary:
    """Summarize the runs in a log and its rotated files. Others may write to it meanwhile.

    Args:
        path: the log.
        pipeline_id: only runs of this pipeline.
        since: only runs that logged something from then on; a time without a zone is local time.

    Raises:
        DiskError: when there is no log, or it cannot be read.
    """
    unreadable: list[bytes] = []
    runs: dict[tuple[str, str], _Run] = {}
    for event in read(path, pipeline_id=pipeline_id, on_unreadable=lambda _: unreadable.append(b"")):
        key = event.pipeline_id, event.run
        if key not in runs:
            runs[key] = _Run(event)
        runs[key].note(event)
    last_of = {run.pipeline_id: run for run in runs.values()}  # the last of each pipeline counts
    for run in runs.values():
        run.is_followed = bool(run.pipeline_id) and last_of[run.pipeline_id] is not run
    after = None if since is None else since.astimezone()
    return LogSummary(
        runs=tuple(run.summary() for run in runs.values() if after is None or run.last >= after),
        unreadable=len(unreadable),
    )


class _Run:
    """What was read of a run so far."""

    def __init__(self, first: LogEvent) -> None:
        self.pipeline_id, self.run = first.pipeline_id, first.run
        self.started = self.last = first.at
        self.is_followed = False
        self._is_whole = first.event == events.RUN_STARTED
        self._nodes: dict[str, _Node] = {}
        self._seconds: float | None = None

    def note(self, event: LogEvent) -> None:
        """Note a line."""
        self.last = max(self.last, event.at)
        if event.event == events.RUN_STARTED:
            self._nodes = {str(name): _Node(str(name)) for name in event.fields.get("nodes", [])}
        elif event.event == events.RUN_ENDED:
            self._seconds = float(event.fields.get("seconds", 0.0))
        elif event.node_id and event.event != events.REFUSED:  # which may name a node that there is not
            self._nodes.setdefault(event.node_id, _Node(event.node_id)).note(event)

    def summary(self) -> RunSummary:
        """Return the summary of the run."""
        state = LoggedState.ENDED
        if self._seconds is None:
            state = LoggedState.KILLED if self.is_followed else LoggedState.OPEN
        nodes = tuple(node.summary(self.last) for node in self._nodes.values() if node.is_known)
        return RunSummary(
            pipeline_id=self.pipeline_id,
            run=self.run,
            state=state,
            started=self.started,
            last=self.last,
            seconds=(self.last - self.started).total_seconds() if self._seconds is None else self._seconds,
            is_whole=self._is_whole,
            nodes=nodes,
            bottleneck=bottleneck_of(nodes),
        )


class _Node:
    """What was read of a node so far."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._first: datetime | None = None
        self._end: dict[str, Any] | None = None
        self._rate: float | None = None
        self._held_times, self._held = 0, 0.0
        self._starved_times, self._starved_before, self._starved = 0, 0.0, 0.0

    @property
    def is_known(self) -> bool:
        """Whether it has logged anything: nodes behind one that failed have not."""
        return self._first is not None

    def note(self, event: LogEvent) -> None:
        """Note a line of the node's."""
        self._first = self._first or event.at
        given = event.fields
        match event.event:
            case events.NODE_STARTED | events.RECONFIGURED:
                self._rate = given.get("rate")
            case events.NODE_ENDED:
                self._end = {name: value for name, value in given.items() if name in _FIGURES}
            case events.BACKPRESSURE | events.BACKPRESSURE_OVER:
                self._held_times = max(self._held_times, given.get("waits", 0))
                self._held = max(self._held, given.get("waited_total_s", 0.0))
            case events.EOF_RETRY | events.EOF_WAITING:
                waited = given.get("waited_s", 0.0)
                if waited < self._starved or not self._starved_times:  # another wait
                    self._starved_before += self._starved
                    self._starved_times += 1
                self._starved = waited

    def summary(self, last: datetime) -> NodeSummary:
        """Return the summary of the node; `last` is the time of the run's last line."""
        if self._end is not None:
            return NodeSummary(node_id=self._node_id, is_exact=True, rate=self._rate, **self._end)
        return NodeSummary(
            node_id=self._node_id,
            rate=self._rate,
            seconds=round((last - (self._first or last)).total_seconds(), 3),
            held_back_s=self._held,
            held_back_times=self._held_times,
            starved_s=round(self._starved_before + self._starved, 3),
            starved_times=self._starved_times,
        )
