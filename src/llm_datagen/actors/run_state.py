"""The run state: what is known of a run, reported to the pipeline, and saved. All in the supervisor's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence, Set
from typing import Any

from llm_datagen.actors.clock import Clock
from llm_datagen.actors.control import PauseControl
from llm_datagen.actors.failure_log import FailureLog, failed_row, ids_shown
from llm_datagen.actors.node_state import NodeState
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.source_totals import SourceTotals
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.errors import DatagenError, FailureRecord
from llm_datagen.messages import (
    CheckpointSaved,
    Moved,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    OperatorFailed,
    OperatorFailure,
    OperatorLogged,
    OutageNoted,
    RowsCommitted,
    RowsFailed,
    Settled,
    Stalled,
    StatusChanged,
    UsageReported,
    UsageTotal,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import usage_of
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import SETTLED, PipelineStatus, Status, why_empty, why_short
from llm_datagen.runs.timeline import Timeline
from llm_datagen.streams.coverage import Begin
from llm_datagen.streams.inputs.part import INPUT_END
from llm_datagen.streams.storage.owner import now_text
from llm_datagen.streams.storage.waiting import Interrupted


class RunState:
    """What is known of a run.

    Args:
        opened_nodes: the nodes.
        pipeline_id: the pipeline's id.
        folder: where the run state is saved; None for nodes that run without one.
        saved_state: the saved run state, as runtime.json has it; changed in place.
        pipeline: gets all reports.
        control: says whether the run is paused.
        log: the platform log.
        clock: what times go by.

    Attributes:
        node_states: each node's, by its id.
        status: the run's.
        reason: why it was cancelled, if somebody said so.
        first_failure: the cause of its failure: the node, what happened, and the exception.
    """

    def __init__(
        self,
        opened_nodes: list[OpenedNode],
        *,
        pipeline_id: str,
        folder: RunFolder | None,
        saved_state: dict[str, Any],
        pipeline: Recipient,
        control: PauseControl,
        log: PlatformLog,
        clock: Clock,
    ) -> None:
        self._opened_nodes = opened_nodes
        self._pipeline_id = pipeline_id
        self._folder = folder
        self._timeline = Timeline(folder)
        self._saved_state = saved_state
        self._pipeline = pipeline
        self._control = control
        self._log = log
        self._clock = clock
        known = {node["node_id"]: node for node in saved_state.get("nodes", [])}
        self.node_states = {
            opened.node_id: NodeState(opened.node_id, known.get(opened.node_id, {}), clock, opened.target)
            for opened in opened_nodes
        }
        self._totals = SourceTotals(self.node_states)
        self.status = Status.RUNNING
        self.reason = ""
        self._end = Status.CANCELED
        self.first_failure: tuple[str, FailureRecord, BaseException | None] | None = None
        self._failed_row: str | None = None
        self._ended_by: OperatorFailure | None = None
        self._failures = FailureLog(log)
        self._last_save = float("-inf")

    def begin(self) -> None:
        """Report what is known of the nodes before they run."""
        for opened in self._opened_nodes:
            for total in self.job_totals(opened):
                self.used_in_all(total)
            self._totals.look_at_seal(opened)
            if not opened.is_needed:
                self.left_out(opened)
            elif opened.sink is None:
                self.node_states[opened.node_id].finished_before(opened.position)
                self.tell_progress(self.node_states[opened.node_id])

    def job_totals(self, opened: OpenedNode) -> Iterator[UsageTotal]:
        """Yield what jobs of batch APIs have used, as the job log of a node has it: nobody may have reported it yet."""
        try:
            used = [] if opened.folder is None else usage_of(opened.folder, opened.node_id)
        except DatagenError:  # who goes on with the jobs says what is wrong
            return
        for entry in used:
            metrics = {name: value for name, value in entry.items() if name not in ("provider", "model")}
            yield UsageTotal(opened.node_id, entry["provider"], entry["model"], metrics)

    def used_in_all(self, total: UsageTotal) -> UsageReported:
        """Record what was used in all; return what is new of it."""
        state = self.node_states[total.node_id]
        used = UsageReported(self._pipeline_id, total.node_id, total.provider, total.model, state.new_of(total))
        state.used(used)
        return used

    def node_started(self, opened: OpenedNode) -> None:
        """Record and report that a node begins."""
        self.node_states[opened.node_id].start(opened.position)
        self._log.info(events.NODE_STARTED, node_id=opened.node_id, **opened.config)
        tell(self._pipeline, NodeStarted(self._pipeline_id, opened.node_id, opened.config))

    def committed(self, message: RowsCommitted) -> None:
        """Record and report that rows of a node were committed."""
        state = self.node_states[message.node_id]
        state.committed(message)
        self.tell_progress(state)

    def target_met(self, node_id: str) -> None:
        """Record that a node has written all the rows that it is to write."""
        report = self.node_states[node_id].report()
        self._log.info(events.TARGET_MET, node_id=node_id, target_rows=report.target_rows)

    def left_out(self, opened: OpenedNode) -> None:
        """Record and report that a node does not run: nobody needs it."""
        self.node_states[opened.node_id].is_not_needed(opened.position)
        self.tell_progress(self.node_states[opened.node_id])

    def node_ended(self, opened: OpenedNode, *, success: bool, is_needed: bool = True) -> None:
        """Record and report that a node has ended. What it has sealed is the source size of nodes that read it."""
        cause = self.first_failure if self.first_failure and self.first_failure[0] == opened.node_id else None
        state = self.node_states[opened.node_id]
        end = self._end if is_needed else Status.UNNEEDED
        state.end(Status.COMPLETED if success else Status.FAILED if cause else end)
        if success:
            for other in self._opened_nodes:
                if other.reads(opened):
                    self._totals.look_at_seal(other)
        report = state.report()
        fields = report.as_dict()
        self._log.info(events.NODE_ENDED, **{key: fields[key] for key in fields if key not in {"usage", "error"}})
        self.tell_progress(state)
        if empty := why_empty(report):
            self._log.warning(events.NO_ROWS, node_id=opened.node_id, message=empty)
        if short := why_short(report):
            self._log.warning(events.TARGET_MISSED, node_id=opened.node_id, message=short)
        for why in filter(None, (empty, short)):
            tell(self._pipeline, OperatorLogged(self._pipeline_id, opened.node_id, "warning", why))
        tell(self._pipeline, NodeFinished(self._pipeline_id, opened.node_id, success, cause[2] if cause else None))

    def rows_failed(self, message: RowsFailed) -> None:
        """Say that rows failed, and that the node goes on without them."""
        now = self._clock.monotonic()
        for failure in message.failures:
            self._failures.note(message.node_id, failure, now)
        tell(self._pipeline, message)

    def operator_failed(self, message: OperatorFailed, *, is_cause: bool) -> None:
        """Record that a call has ended its node; unless it is a cause, while the node or the run was ending (F1)."""
        node_id, failure = message.node_id, message.failure
        if not failure.is_fatal:  # else its row has no part in it
            self.node_states[node_id].failed += 1
        if is_cause:
            self._ended_by = self._ended_by or failure
            self.failed(node_id, failure.record, failure.error, failure.items, ids=ids_shown(failure))
        else:
            kind, ids = failure.record.kind, ids_shown(failure)
            self._log.warning(events.NODE_FAILED, node_id=node_id, kind=kind, ids=ids, while_canceling=True)

    def failed(
        self,
        node_id: str,
        failure: FailureRecord,
        error: BaseException | None,
        items: Sequence[Any] = (),
        *,
        ids: Sequence[str] = (),
    ) -> None:
        """Record and report a failure; the first one is the cause."""
        self._log.error(events.NODE_FAILED, node_id=node_id, kind=failure.kind, ids=ids, while_canceling=False)
        if self.first_failure is None:
            self.first_failure = (node_id, failure, error)
            self.node_states[node_id].error = str(failure)
            error = error or DatagenError(str(failure))
            tell(self._pipeline, NodeFailed(self._pipeline_id, node_id, failure, error, list(items)))

    def canceling(self, reason: str, *, end: Status = Status.CANCELED) -> None:
        """Record that the run is being ended, and its final status: canceled, or stopped by an operator."""
        self.status, self.reason, self._end = Status.CANCELING, reason, end
        self._log.info(events.CANCEL, reason=reason, because_of_failure=self.first_failure is not None)

    def are_nodes_completed(self) -> bool:
        """Return whether nothing is left to do but what comes after the nodes."""
        is_completed = all(state.status in SETTLED for state in self.node_states.values())
        return is_completed and self.status is Status.RUNNING and self.first_failure is None

    def settle(self, *, is_done: bool, unneeded: Set[str]) -> Settled:
        """Draw the conclusion when nothing runs any more, and save it; return it for the pipeline."""
        for node_id in unneeded:
            if self.node_states[node_id].status is not Status.COMPLETED:
                self.node_states[node_id].status = Status.UNNEEDED
        ends = {state.status for state in self.node_states.values()}
        if self.first_failure is not None:
            self.status = Status.FAILED
            if self._ended_by is not None:  # only now, as it may take a while: lines are counted
                opened = next(opened for opened in self._opened_nodes if opened.node_id == self.first_failure[0])
                with contextlib.suppress(Interrupted):
                    self._failed_row = failed_row(opened.source, self._ended_by)
        elif ends <= SETTLED and is_done:
            self.status = Status.COMPLETED
        else:
            self.status = self._end
            for state in self.node_states.values():
                if state.status is Status.PENDING:
                    state.end(self._end)
                    self.tell_progress(state)
        self.save(final=True)
        node_id, failure, error = self.first_failure or ("", None, None)
        return Settled(self.now(), node_id, failure, error)

    def stall_changed(self, message: Stalled | Moved) -> None:
        """Record and report that nothing moves in a node, or that something does again."""
        if isinstance(message, Moved):
            self.node_states[message.node_id].stalled = None
        else:
            self._stalled(message)
        self.changed()

    def _stalled(self, stalled: Stalled) -> None:
        ids = [str(row_id) for row_id in stalled.ids]
        self.node_states[stalled.node_id].stalled = (
            f"nothing has moved for {stalled.seconds:.0f} s; waits on {stalled.waits_on}; {stalled.in_flight} rows in "
            f"flight{': ' + ', '.join(ids) if ids else ''}"
        )
        self._log.warning(
            events.STALLED,
            node_id=stalled.node_id,
            seconds=round(stalled.seconds, 3),
            waits_on=stalled.waits_on,
            in_flight=stalled.in_flight,
            ids=ids,
        )
        tell(self._pipeline, stalled)

    def outage_noted(self, message: OutageNoted) -> None:
        """Record and report that calls wait as no endpoint answers, or go on; that it begins and ends, at once."""
        state = self.node_states[message.node_id]
        was_on = state.outage is not None
        state.outage_noted(message)
        self.tell_progress(state)
        if was_on != (state.outage is not None):
            self.changed()

    def tell_progress(self, state: NodeState) -> None:
        """Tell subscribers how far a node is."""
        self._totals.was_told(state)
        tell(self._pipeline, state.progress(self._pipeline_id))

    def tick(self, running: Sequence[OpenedNode]) -> None:
        """Tell how things are, and save that if the last time is long enough ago."""
        self._totals.estimate(running)
        for state in self._totals.not_told(running):  # long before a slow first row is committed
            self.tell_progress(state)
        self.tell_status()
        if self._folder is not None:
            self._folder.check()
            if self._clock.monotonic() - self._last_save >= self._folder.save_seconds:  # a change of status: at once
                self.save()

    def changed(self) -> None:
        """Tell and save at once how things are."""
        self.tell_status()
        self.save()

    def tell_status(self) -> PipelineStatus:
        """Tell how things are, and return that."""
        status = self.now()
        tell(self._pipeline, StatusChanged(status))
        return status

    def now(self) -> PipelineStatus:
        """Return how things are."""
        return PipelineStatus(
            pipeline_id=self._pipeline_id,
            status=self.status,
            nodes=tuple(self.node_states[opened.node_id].report() for opened in self._opened_nodes),
            reason=self.reason,
            error=str(self.first_failure[1]) if self.first_failure else None,
            failed_row=self._failed_row,
            paused=self._control.is_paused and self.status is Status.RUNNING,
        )

    def input_ends(self, node_id: str, end: Begin) -> bool:
        """Note that the input of a node ends earlier than it was planned; return whether that is saved."""
        entry = next(entry for entry in self._saved_state["nodes"] if entry["node_id"] == node_id)
        entry[INPUT_END] = list(end)
        self._log.info(events.GIVEN_AWAY, node_id=node_id, row=end[0])
        return self.save(may_wait=False)

    def save(self, *, final: bool = False, may_wait: bool = True) -> bool:
        """Save the run state and the checkpoint; return whether that was done. See `RunFolder.save`."""
        self._last_save = self._clock.monotonic()
        if self._folder is None:
            return False
        now = self.now()
        fields = ("reason", "error", "failed_row", "paused", "usage", "cost")
        self._saved_state.update({name: getattr(now, name) for name in fields}, status=str(now.status))
        if final:
            self._saved_state["ended_at"] = now_text()
        for node, report in zip(self._saved_state["nodes"], now.nodes, strict=True):
            node.update(report.as_dict())
        checkpoint = {
            node["node_id"]: self.node_states[node["node_id"]].checkpoint(node["input_uri"], node["output_uri"])
            for node in self._saved_state["nodes"]
        }
        self._folder.save_checkpoint(checkpoint)
        if not self._folder.save(self._saved_state, may_wait=may_wait and not final):
            return False
        self._timeline.note(self._saved_state, is_last=final)
        for node_id, position in checkpoint.items():
            if self.node_states[node_id].last is not None:
                tell(self._pipeline, CheckpointSaved(self._pipeline_id, node_id, position))
        return True
