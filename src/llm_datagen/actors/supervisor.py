"""The supervisor: it starts the stages, watches them, and keeps the image. It touches no row.

The order of an end: a source that has ended ends its reader; the node ends when every row was delivered, and tells
its writer to seal; a node that had to stop is drained by the supervisor instead, without a seal. The first failure
is the cause; what follows from it never replaces it (F1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import pykka

from llm_datagen import log as events
from llm_datagen.actors.node import NodeActor
from llm_datagen.actors.plan import NodePlan
from llm_datagen.actors.progress import NodeProgress
from llm_datagen.actors.reader import ReaderActor
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.actors.steering import ANSWER_SECONDS, PauseAnswer, Steering
from llm_datagen.actors.writer import WriterActor
from llm_datagen.errors import ConfigError, DatagenError, FailureRecord
from llm_datagen.log import PlatformLog
from llm_datagen.messages import (
    Attach,
    Cancel,
    CheckpointSaved,
    Drain,
    Feed,
    Moved,
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    OperatorFailed,
    OperatorFailure,
    OperatorLogged,
    Outcome,
    Pause,
    Reconfigure,
    RowDeadLettered,
    RowsCommitted,
    RowsFailed,
    Settled,
    SourceSized,
    StageEnded,
    Stalled,
    StatusChanged,
    Steer,
    SupervisorMessage,
    TimeSpent,
    Unpause,
    UsageReported,
)
from llm_datagen.report import PipelineStatus, Status
from llm_datagen.runtime import RunFolder
from llm_datagen.runtime.folder import now_text
from llm_datagen.streams import Sink

TICK_SECONDS = 0.25
"""How often the status is told to the pipeline."""

FAILURES_LOGGED = 10
"""Rows that failed of which each has a line in the log; of more, one a second."""

IDS_SHOWN = 10
"""Ids of rows that failed in a line of the log, at most."""

SAVE_SECONDS = 0.5
"""How often the image is saved while rows move; a change of status is saved at once."""


@dataclass(frozen=True, slots=True)
class _Tick:
    """Timer: time to look around."""


@dataclass(slots=True, eq=False)
class _Group:
    """The stages of a node."""

    plan: NodePlan
    reader: pykka.ActorRef[Any]
    node: pykka.ActorRef[Any]
    writer: pykka.ActorRef[Any]
    ended: dict[str, Outcome] = field(default_factory=dict)
    is_over: bool = False


class SupervisorActor(Stage):
    """Runs the nodes of a pipeline.

    Args:
        plans: the nodes, in an order in which each comes after the one that it reads from.
        pipeline_id: the pipeline's id.
        streaming: whether all nodes run at once, or one after the other.
        folder: where the image is kept; None for nodes that run without one.
        image: the image; the supervisor alone changes it from now on.
        pipeline: who hears of everything, and is the boss.
        crew: every stage that is started is added to it.
        log: the platform log.
    """

    def __init__(
        self,
        plans: list[NodePlan],
        *,
        pipeline_id: str,
        streaming: bool,
        folder: RunFolder | None,
        image: dict[str, Any],
        pipeline: Recipient,
        crew: list[pykka.ActorRef[Any]],
        log: PlatformLog,
    ) -> None:
        super().__init__("supervisor", "", pipeline)
        self._plans = plans
        self._pipeline_id = pipeline_id
        self._streaming = streaming
        self._folder = folder
        self._image = image
        self._pipeline = pipeline
        self._crew = crew
        self._log = log
        known = {node["node_id"]: node for node in image.get("nodes", [])}
        self._progress = {plan.node_id: NodeProgress(plan.node_id, known.get(plan.node_id, {})) for plan in plans}
        self._groups: dict[str, _Group] = {}
        self._waiting = [plan for plan in plans if plan.sink is not None]
        self._status = Status.RUNNING
        self._reason = ""
        self._first_failure: tuple[str, FailureRecord, BaseException | None] | None = None
        self._failures = _FailureLog(log)
        self._steering = Steering(plans, image, log)
        self._told_totals: dict[str, tuple[int | None, bool]] = {}
        self._last_save = float("-inf")

    def begin(self) -> None:
        """Start all nodes, or the first."""
        for plan in self._plans:
            self._size(plan)
            if plan.sink is None:
                self._progress[plan.node_id].finished_before(plan.position)
                self._tell_progress(self._progress[plan.node_id])
        self._go_on()
        self._look_around()

    def handle(self, message: SupervisorMessage | PauseAnswer | _Tick) -> None:
        """Handle a message."""
        match message:
            case RowsCommitted(node_id=node_id):
                progress = self._progress[node_id]
                progress.committed(message)
                self._tell_progress(progress)
            case SourceSized(node_id=node_id):
                self._progress[node_id].sized(message)
            case UsageReported(node_id=node_id):
                self._progress[node_id].used(message)
                tell(self._pipeline, message)
            case TimeSpent(node_id=node_id):
                self._progress[node_id].spent(message)
            case OperatorLogged():
                tell(self._pipeline, message)
            case Stalled():
                self._stalled(message)
            case Moved(node_id=node_id):
                self._progress[node_id].stalled = None
                self._changed()
            case RowsFailed():
                self._rows_failed(message)
            case OperatorFailed(node_id=node_id):
                self._operator_failed(node_id, message)
            case StageEnded():
                self._stage_ended(message)
            case Steer(order=order, answer=answer):
                self._steer(order, answer)
            case Cancel(reason=reason):
                self._cancel(reason)
            case PauseAnswer():
                message.give()
            case _Tick():
                self._look_around()
            case _:
                refuse_unknown(message)
        if isinstance(message, StageEnded | Cancel | OperatorFailed):
            self._go_on()

    def drop(self, message: Any) -> None:
        """Let nobody wait for an answer that will not come."""
        if isinstance(message, Steer):
            message.answer.set_exception(pykka.ActorDeadError("the run has ended"))

    def release(self) -> None:
        """See to it that no stage outlives the supervisor, whatever ended it."""
        for group in self._groups.values():
            self._stop_group(group)
            tell(group.writer, Drain())

    # Starting.

    def _go_on(self) -> None:
        """Start what is to run now; settle when nothing runs and nothing is left to run."""
        is_idle = all(group.is_over for group in self._groups.values())
        if self._status is Status.RUNNING and self._waiting and (self._streaming or is_idle):
            # The last first: a writer must know who reads from it.
            for plan in reversed(self._waiting if self._streaming else self._waiting[:1]):
                self._start(plan)
                self._waiting.remove(plan)
        elif is_idle:
            self._settle()

    def _start(self, plan: NodePlan) -> None:
        assert plan.sink is not None
        started = len(self._crew)
        try:
            self._start_stages(plan, plan.sink)
        except BaseException:  # such as: no thread can be started
            for ref in self._crew[started:]:
                ref.stop(block=False)
            raise
        self._progress[plan.node_id].start(plan.position)
        self._log.info(events.NODE_STARTED, node_id=plan.node_id, **plan.config)
        tell(self._pipeline, NodeStarted(self._pipeline_id, plan.node_id, plan.config))

    def _start_stages(self, plan: NodePlan, sink: Sink) -> None:
        me = self.actor_ref
        writer = WriterActor.start(plan.node_id, me, sink, plan.writer, seal=plan.seal, log=self._log)
        self._crew.append(writer)
        node = NodeActor.start(plan, self._pipeline_id, me, writer, self._log)
        self._crew.append(node)
        reader = ReaderActor.start(
            plan.node_id,
            me,
            node,
            plan.source.cursor(plan.segments, follow=plan.follow),
            retry_interval=plan.writer.retry_interval,
            idle_timeout=plan.idle_timeout,
            log=self._log,
        )
        self._crew.append(reader)
        self._groups[plan.node_id] = _Group(plan, reader, node, writer)
        for group in self._groups.values():
            if sink.stream.place in group.plan.source.places:
                tell(writer, Attach(group.reader))
        self._steering.begin(node, reader)
        tell(node, Feed(reader))

    # Steering.

    def _steer(self, order: Pause | Unpause | Reconfigure, answer: Future[Any]) -> None:
        stages = [(group.node, group.reader) for group in self._groups.values()]
        is_running = self._status is Status.RUNNING
        match order:
            case Pause() if is_running:
                status = replace(self._now(), paused=True)
                self.mailbox.wake_after(ANSWER_SECONDS, PauseAnswer(answer, status), key=f"answer {id(answer)}")
                self._steering.pause(stages, status, answer)
            case Unpause() if is_running:
                self._steering.unpause(stages)
                answer.set_result(self._now())
            case Reconfigure(node_id=node_id):
                group = self._groups.get(node_id)
                is_over = not is_running or (group is not None and "node" in group.ended)
                try:
                    node = group.node if group else None
                    answer.set_result(self._steering.reconfigure(order, node, is_over=is_over))
                except ConfigError as error:
                    answer.set_exception(error)
            case _:  # it ends: no call begins
                answer.set_result(self._now())
        self._changed()

    # Ending.

    def _stage_ended(self, ended: StageEnded) -> None:
        group = self._groups[ended.node_id]
        group.ended[ended.role] = ended.outcome
        if ended.outcome is Outcome.FAILED:
            assert ended.failure is not None
            self._failed(ended.node_id, ended.failure, ended.error, [])
        elif (
            ended.outcome is Outcome.STOPPED
            and self._status is Status.RUNNING
            # A node stops when its writer is dead; what the writer says, before or after, is the cause (F1).
            and (ended.role != "node" or group.writer.is_alive())
        ):
            # Nobody here asked for it: somebody stopped our actor.
            error = DatagenError(f"the {ended.role} of node {ended.node_id} was stopped from outside")
            self._failed(ended.node_id, FailureRecord.of(error), error, [])
        if ended.role == "node" and ended.outcome is not Outcome.FINISHED:
            tell(group.writer, Drain())
        if len(group.ended) == 3:
            self._node_ended(group)

    def _node_ended(self, group: _Group) -> None:
        node_id = group.plan.node_id
        is_cause = self._first_failure is not None and self._first_failure[0] == node_id
        success = group.ended["writer"] is Outcome.FINISHED
        status = Status.COMPLETED if success else Status.FAILED if is_cause else Status.CANCELED
        progress = self._progress[node_id]
        progress.end(status)
        if success:
            for plan in self._plans:
                if group.plan.sink is not None and group.plan.sink.stream.place in plan.source.places:
                    self._size(plan)
        self._log.info(events.NODE_ENDED, **_brief(progress.report().as_dict()))
        error = self._first_failure[2] if is_cause and self._first_failure is not None else None
        self._tell_progress(progress)
        tell(self._pipeline, NodeFinished(self._pipeline_id, node_id, success, error))
        group.is_over = True
        self._changed()

    def _stalled(self, stalled: Stalled) -> None:
        ids = [str(row_id) for row_id in stalled.ids]
        self._progress[stalled.node_id].stalled = (
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
        self._changed()

    def _rows_failed(self, message: RowsFailed) -> None:
        failure = message.failure
        self._failures.note(message.node_id, failure, self.clock.monotonic())
        tell(
            self._pipeline,
            RowDeadLettered(
                self._pipeline_id,
                message.node_id,
                failure.ids,
                failure.record,
                message.is_dead_lettered,
                failure.error,
                failure.items,
            ),
        )

    def _operator_failed(self, node_id: str, message: OperatorFailed) -> None:
        failure = message.failure
        self._progress[node_id].failed += 1
        if self._status is Status.RUNNING:
            self._failed(node_id, failure.record, failure.error, failure.items, ids=_shown(failure))
        else:  # it failed because, or while, it was being cancelled; the row is done again on resume
            self._log.warning(
                events.NODE_FAILED, node_id=node_id, kind=failure.record.kind, ids=_shown(failure), while_canceling=True
            )

    def _failed(
        self,
        node_id: str,
        failure: FailureRecord,
        error: BaseException | None,
        items: list[Any],
        *,
        ids: Sequence[str] = (),
    ) -> None:
        self._log.error(events.NODE_FAILED, node_id=node_id, kind=failure.kind, ids=ids, while_canceling=False)
        if self._first_failure is None:
            self._first_failure = (node_id, failure, error)
            self._progress[node_id].error = str(failure)
            tell(
                self._pipeline,
                NodeFailed(self._pipeline_id, node_id, failure, error or DatagenError(str(failure)), items),
            )
        self._cancel("")

    def _cancel(self, reason: str) -> None:
        """Stop everything, sink first."""
        for plan in reversed(self._plans):
            if plan.node_id in self._groups:
                self._stop_group(self._groups[plan.node_id])
        if self._status is Status.RUNNING:
            self._status = Status.CANCELING
            self._reason = reason
            self._log.info(events.CANCEL, reason=reason, because_of_failure=self._first_failure is not None)
            self._changed()

    def _stop_group(self, group: _Group) -> None:
        tell(group.node, Cancel())
        tell(group.reader, Cancel())

    def _settle(self) -> None:
        if self._first_failure is not None:
            self._status = Status.FAILED
        elif all(progress.status is Status.COMPLETED for progress in self._progress.values()):
            self._status = Status.COMPLETED
        else:
            self._status = Status.CANCELED
            for plan in self._waiting:
                self._progress[plan.node_id].end(Status.CANCELED)
        self._save(final=True)
        node_id, failure, error = self._first_failure or ("", None, None)
        tell(self._pipeline, Settled(self._now(), node_id, failure, error))
        self.end(Outcome.FINISHED)

    # Telling and saving.

    def _tell_progress(self, progress: NodeProgress) -> None:
        report = progress.report()
        self._told_totals[report.node_id] = (progress.source_total, progress.source_is_exact)
        meta = {
            "rows_out": report.rows_out,
            "filtered": report.filtered,
            "failed": report.failed,
            "skipped": report.skipped,
            "dead_letters": report.dead_letters,
            "rows_per_second": report.rows_per_second,
            "total_is_exact": report.total_is_exact,
        }
        tell(
            self._pipeline,
            NodeProgressed(self._pipeline_id, report.node_id, report.rows_in, report.total, meta),
        )

    def _look_around(self) -> None:
        if self.actor_stopped.is_set():
            return
        self._estimate_totals()
        for node_id in self._groups:  # a total that becomes known is news, long before a slow first row is committed
            progress = self._progress[node_id]
            if self._told_totals.get(node_id, (None, False)) != (progress.source_total, progress.source_is_exact):
                self._tell_progress(progress)
        tell(self._pipeline, StatusChanged(self._now()))
        if self.clock.monotonic() - self._last_save >= SAVE_SECONDS:
            self._save()
        self.mailbox.wake_after(TICK_SECONDS, _Tick())

    def _changed(self) -> None:
        if not self.actor_stopped.is_set():
            tell(self._pipeline, StatusChanged(self._now()))
            self._save()

    def _estimate_totals(self) -> None:
        """A node that reads what another one is still writing will get what that one is expected to write."""
        expected: dict[tuple[str, str], float | None] = {}
        for group in self._groups.values():
            if group.plan.sink is not None:
                rows = self._progress[group.plan.node_id].expected_rows_out()
                expected[group.plan.sink.stream.place] = rows
        for node_id, group in self._groups.items():
            found = [rows for place in group.plan.source.places if (rows := expected.get(place)) is not None]
            if len(found) == len(group.plan.source.places):
                self._progress[node_id].sized(SourceSized(node_id, round(sum(found)), is_exact=False))

    def _size(self, plan: NodePlan) -> None:
        """Take the number of the source's rows from its seal, if it has one: then it need not be read to be counted."""
        with contextlib.suppress(OSError):  # who reads it will say so
            seal = plan.source.manifest()
            if seal is not None and seal.complete and seal.rows is not None:
                self._progress[plan.node_id].sized(SourceSized(plan.node_id, seal.rows, is_exact=True))

    def _now(self) -> PipelineStatus:
        return PipelineStatus(
            pipeline_id=self._pipeline_id,
            status=self._status,
            nodes=tuple(self._progress[plan.node_id].report() for plan in self._plans),
            reason=self._reason,
            error=str(self._first_failure[1]) if self._first_failure else None,
            paused=self._steering.is_paused and self._status is Status.RUNNING,
        )

    def _save(self, *, final: bool = False) -> None:
        self._last_save = self.clock.monotonic()
        if self._folder is None:
            return
        now = self._now()
        self._image["status"] = str(now.status)
        self._image["reason"] = now.reason
        self._image["error"] = now.error
        self._image["paused"] = now.paused
        if final:
            self._image["ended_at"] = now_text()
        for node, report in zip(self._image["nodes"], now.nodes, strict=True):
            node.update(report.as_dict())
        checkpoint = {
            node["node_id"]: self._progress[node["node_id"]].checkpoint(node["input_uri"], node["output_uri"])
            for node in self._image["nodes"]
        }
        self._folder.save_checkpoint(checkpoint)
        self._folder.save(self._image)
        for node_id, position in checkpoint.items():
            if self._progress[node_id].last is not None:
                tell(self._pipeline, CheckpointSaved(self._pipeline_id, node_id, position))


class _FailureLog:
    """Says in the log which rows failed: the first ten of a node, then one a second, with how many in between."""

    def __init__(self, log: PlatformLog) -> None:
        self._log = log
        self._count: dict[str, int] = {}
        self._next_line: dict[str, float] = {}

    def note(self, node_id: str, failure: OperatorFailure, now: float) -> None:
        count = self._count[node_id] = self._count.get(node_id, 0) + failure.rows
        if count > FAILURES_LOGGED and now < self._next_line.get(node_id, 0.0):
            return
        self._next_line[node_id] = now + 1.0
        self._log.warning(
            events.ROW_FAILED,
            node_id=node_id,
            ids=_shown(failure),
            kind=failure.record.kind,
            failed_in_run=count,
        )


def _shown(failure: OperatorFailure) -> list[str]:
    return [str(row_id) for row_id in failure.ids[:IDS_SHOWN]]


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in {"usage", "error"}}
