"""The state of a run in shards: reported to the pipeline, and saved. All in the supervisor's thread."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from llm_datagen.actors.clock import Clock
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.errors import FailureRecord, RunError, TooManyErrorsError
from llm_datagen.messages import (
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    OperatorLogged,
    Settled,
    StatusChanged,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.status import SETTLED, NodeReport, PipelineStatus, Status
from llm_datagen.runs.timeline import Timeline
from llm_datagen.shards.control import ShardControl
from llm_datagen.shards.executor import ShardHandle
from llm_datagen.shards.standing import Standing
from llm_datagen.streams.storage.owner import now_text

TICK_SECONDS = 0.25
"""How often the status is told to the pipeline."""


class WholeState:
    """What is known of a run in shards.

    Args:
        standing: where its shards stand.
        folder: that of the whole, where its run state is saved.
        saved_state: the saved run state; changed in place.
        pipeline: gets all reports.
        control: says whether the run is paused.
        log: the platform log.
        clock: what times go by.

    Attributes:
        status: the run's.
        cause: why it has failed: the node, what happened, and the exception.
        failed_row: the id of the row that it has failed of, if one shard knows it.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        folder: RunFolder,
        saved_state: dict[str, Any],
        pipeline: Recipient,
        control: ShardControl,
        log: PlatformLog,
        clock: Clock,
    ) -> None:
        self._standing, self._folder, self._saved_state = standing, folder, saved_state
        self._timeline = Timeline(folder)
        self._pipeline, self._control, self._log, self._clock = pipeline, control, log, clock
        self.status = Status.RUNNING
        self.cause: tuple[str, FailureRecord, BaseException | None] | None = None
        self.failed_row: str | None = None
        self._reason, self._end = "", Status.CANCELED
        self._running = 0
        self._told: dict[str, tuple[Any, ...]] = {}
        self._last_told = self._last_save = float("-inf")

    @property
    def _pipeline_id(self) -> str:
        return self._folder.pipeline_id

    def begin(self) -> None:
        """Report that the nodes begin."""
        for entry in self._saved_state["nodes"]:
            tell(self._pipeline, NodeStarted(self._pipeline_id, entry["node_id"], entry))

    def failed(self, node_id: str, failure: FailureRecord, error: BaseException | None) -> None:
        """Record and report a failure; the first one is the cause. `node_id` is empty when no node has failed."""
        self._log.error(events.NODE_FAILED, node_id=node_id, kind=failure.kind, ids=[], while_canceling=False)
        if self.cause is None:
            self.cause = node_id, failure, error
            if node_id:
                tell(self._pipeline, NodeFailed(self._pipeline_id, node_id, failure, error or RunError(str(failure))))

    def canceling(self, reason: str, *, end: Status) -> None:
        """Record that the run is being ended, and its final status: canceled, or stopped by an operator."""
        self.status, self._reason, self._end = Status.CANCELING, reason, end
        self._log.info(events.CANCEL, reason=reason, because_of_failure=self.cause is not None)

    def settle(self, *, is_done: bool) -> None:
        """Draw the conclusion when nothing runs any more; save it, and report it.

        Args:
            is_done: whether all shards are done, and what comes after them.
        """
        if self.cause is not None:
            self.status = Status.FAILED
        elif self.status is Status.RUNNING and is_done:
            self.status = Status.COMPLETED
        else:
            self.status = self._end
        self.tick((), is_due=True)
        for report in self._standing.reports():
            error = self.cause[2] if self.cause and self.cause[0] == report.node_id else None
            is_over = report.status in SETTLED
            tell(self._pipeline, NodeFinished(self._pipeline_id, report.node_id, is_over, error))
        self._save(final=True)
        node_id, failure, error = self.cause or ("", None, None)
        tell(self._pipeline, Settled(self.now(), node_id, failure, error))

    def pass_events_on(self, handle: ShardHandle) -> None:
        """Report what a shard has told of its rows, its usage and its stalls, and what its operators have logged."""
        for packed in handle.events():
            tell(self._pipeline, packed.unpack(self._pipeline_id, handle.number))

    def tell_log(self, text: str) -> None:
        """Tell people something."""
        node_id = self._saved_state["nodes"][0]["node_id"]
        tell(self._pipeline, OperatorLogged(self._pipeline_id, node_id, "warning", text))

    def now(self) -> PipelineStatus:
        """Return how things are."""
        return PipelineStatus(
            pipeline_id=self._pipeline_id,
            status=self.status,
            nodes=self._standing.reports(),
            reason=self._reason,
            error=str(self.cause[1]) if self.cause else None,
            failed_row=self.failed_row,
            paused=self._control.is_paused and self.status is Status.RUNNING,
        )

    def tell_status(self) -> PipelineStatus:
        """Tell how things are, and return that."""
        status = self.now()
        tell(self._pipeline, StatusChanged(status))
        return status

    def tick(self, running: Collection[ShardHandle], *, is_due: bool) -> PipelineStatus | None:
        """Tell how things are, and save that if the last time is long enough ago.

        Args:
            running: the shards that run.
            is_due: whether something has changed; else it is told every `TICK_SECONDS`.

        Returns:
            What was told; None when it is not time to.
        """
        now = self._clock.monotonic()
        if not is_due and now - self._last_told < TICK_SECONDS:
            return None
        self._last_told, self._running = now, len(running)
        for handle in running:
            if (known := handle.status()) is not None:
                self._standing.now(handle.number, known)
            self.pass_events_on(handle)
        status = self.now()
        self._tell_progress(status.nodes)
        tell(self._pipeline, StatusChanged(status))
        self._folder.check()
        if now - self._last_save >= self._folder.save_seconds:
            self._save()
        return status

    def too_many_errors(self, reports: Sequence[NodeReport]) -> tuple[str, TooManyErrorsError] | None:
        """Return the node of which more rows failed in all shards together than may, and that as an error.

        Each shard by itself looks at its own.
        """
        for report, entry in zip(reports, self._saved_state["nodes"], strict=True):
            most, failed = entry["max_errors"], report.skipped + report.dead_letters
            if isinstance(most, int) and failed > most:
                text = f"{failed:,} rows failed in all shards together, and max_errors is {most:,}"
                return report.node_id, TooManyErrorsError(text)
        return None

    def _tell_progress(self, reports: Sequence[NodeReport]) -> None:
        for report in reports:
            told = report.rows_in, report.total, report.usage, report.outage
            if self._told.get(report.node_id) != told:
                self._told[report.node_id] = told
                meta = {**report.as_dict(), SHARDS: self._counts()}
                tell(
                    self._pipeline,
                    NodeProgressed(self._pipeline_id, report.node_id, report.rows_in, report.total, meta),
                )

    def _counts(self) -> dict[str, int]:
        """Return how many shards there are, are done, and run."""
        standing = self._standing
        return {"count": len(standing.numbers), "done": len(standing.done), "running": self._running}

    def _save(self, *, final: bool = False) -> None:
        self._last_save = self._clock.monotonic()
        now = self.now()
        fields = ("reason", "error", "failed_row", "paused", "usage", "cost")
        self._saved_state.update({name: getattr(now, name) for name in fields}, status=str(now.status))
        count = self._saved_state[SHARDS]["count"]  # with how many it was made
        self._saved_state[SHARDS] = {**self._saved_state[SHARDS], **self._counts(), "count": count}
        if final:
            self._saved_state["ended_at"] = now_text()
        for entry, report in zip(self._saved_state["nodes"], now.nodes, strict=True):
            entry.update(report.as_dict())
        if self._folder.save(self._saved_state, may_wait=not final):
            self._timeline.note(self._saved_state, is_last=final)
