"""The supervisor: it starts the stages, watches them, and keeps the image. It touches no row.

The order of an end: a source that has ended ends its reader; the node ends when every row was delivered, and tells
its writer to seal; a node that had to stop is drained by the supervisor instead, without a seal. The first failure
is the cause; what follows from it never replaces it (F1).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pykka

from llm_datagen import log as events
from llm_datagen.actors.failurelog import FailureLog, ids_shown
from llm_datagen.actors.group import Group
from llm_datagen.actors.plan import NodePlan
from llm_datagen.actors.record import RunRecord
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.actors.steering import ANSWER_SECONDS, PauseAnswer, Steering
from llm_datagen.errors import ConfigError, DatagenError, FailureRecord
from llm_datagen.log import PlatformLog
from llm_datagen.messages import (
    Attach,
    Cancel,
    Drain,
    Feed,
    Moved,
    NodeFailed,
    NodeFinished,
    NodeStarted,
    OperatorFailed,
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
    Steer,
    SupervisorMessage,
    TimeSpent,
    Unpause,
    UsageReported,
)
from llm_datagen.report import Status
from llm_datagen.runtime import RunFolder

TICK_SECONDS = 0.25
"""How often the status is told to the pipeline."""


@dataclass(frozen=True, slots=True)
class _Tick:
    """Timer: time to look around."""


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
        self._pipeline = pipeline
        self._crew = crew
        self._log = log
        self._groups: dict[str, Group] = {}
        self._waiting = [plan for plan in plans if plan.sink is not None]
        self._failures = FailureLog(log)
        self._steering = Steering(plans, image, log)
        self._record = RunRecord(
            plans,
            pipeline_id=pipeline_id,
            folder=folder,
            image=image,
            pipeline=pipeline,
            steering=self._steering,
            log=log,
            clock=self.clock,
        )

    def begin(self) -> None:
        """Start all nodes, or the first."""
        for plan in self._plans:
            self._record.size(plan)
            if plan.sink is None:
                self._record.progress[plan.node_id].finished_before(plan.position)
                self._record.tell_progress(self._record.progress[plan.node_id])
        self._go_on()
        self._look_around()

    def handle(self, message: SupervisorMessage | PauseAnswer | _Tick) -> None:
        """Handle a message."""
        match message:
            case RowsCommitted(node_id=node_id):
                progress = self._record.progress[node_id]
                progress.committed(message)
                self._record.tell_progress(progress)
            case SourceSized(node_id=node_id):
                self._record.progress[node_id].sized(message)
            case UsageReported(node_id=node_id):
                self._record.progress[node_id].used(message)
                tell(self._pipeline, message)
            case TimeSpent(node_id=node_id):
                self._record.progress[node_id].spent(message)
            case OperatorLogged():
                tell(self._pipeline, message)
            case Stalled():
                self._record.stalled(message)
            case Moved(node_id=node_id):
                self._record.progress[node_id].stalled = None
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
            group.cancel()
            tell(group.writer, Drain())

    # Starting.

    def _go_on(self) -> None:
        """Start what is to run now; settle when nothing runs and nothing is left to run."""
        is_idle = all(group.is_over for group in self._groups.values())
        if self._record.status is Status.RUNNING and self._waiting and (self._streaming or is_idle):
            # The last first: a writer must know who reads from it.
            for plan in reversed(self._waiting if self._streaming else self._waiting[:1]):
                self._start(plan)
                self._waiting.remove(plan)
        elif is_idle:
            self._settle()

    def _start(self, plan: NodePlan) -> None:
        group = Group.start(plan, self._pipeline_id, self.actor_ref, self._crew, self._log)
        self._groups[plan.node_id] = group
        for other in self._groups.values():
            if other.reads(plan):
                tell(group.writer, Attach(other.reader))
        self._steering.begin(group.node, group.reader)
        tell(group.node, Feed(group.reader))
        self._record.progress[plan.node_id].start(plan.position)
        self._log.info(events.NODE_STARTED, node_id=plan.node_id, **plan.config)
        tell(self._pipeline, NodeStarted(self._pipeline_id, plan.node_id, plan.config))

    # Steering.

    def _steer(self, order: Pause | Unpause | Reconfigure, answer: Future[Any]) -> None:
        try:
            self._do(order, answer)
        except BaseException as error:  # also of a bug, whoever waits hears
            if not answer.done():
                answer.set_exception(error)
            if not isinstance(error, ConfigError):
                raise
        self._changed()

    def _do(self, order: Pause | Unpause | Reconfigure, answer: Future[Any]) -> None:
        stages = [(group.node, group.reader) for group in self._groups.values()]
        is_running = self._record.status is Status.RUNNING
        match order:
            case Pause() if is_running:
                status = replace(self._record.now(), paused=True)
                self.mailbox.wake_after(ANSWER_SECONDS, PauseAnswer(answer, status), key=f"answer {id(answer)}")
                self._steering.pause(stages, status, answer)
            case Unpause() if is_running:
                self._steering.unpause(stages)
                answer.set_result(self._record.now())
            case Reconfigure(node_id=node_id):
                group = self._groups.get(node_id)
                is_over = not is_running or (group is not None and "node" in group.ended)
                node = group.node if group else None
                answer.set_result(self._steering.reconfigure(order, node, is_over=is_over))
            case _:  # it ends: no call begins
                answer.set_result(self._record.now())

    # Ending.

    def _stage_ended(self, ended: StageEnded) -> None:
        group = self._groups[ended.node_id]
        group.ended[ended.role] = ended.outcome
        if ended.outcome is Outcome.FAILED:
            assert ended.failure is not None
            self._failed(ended.node_id, ended.failure, ended.error, [])
        elif (
            ended.outcome is Outcome.STOPPED
            and self._record.status is Status.RUNNING
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

    def _node_ended(self, group: Group) -> None:
        node_id = group.plan.node_id
        is_cause = self._record.first_failure is not None and self._record.first_failure[0] == node_id
        success = group.ended["writer"] is Outcome.FINISHED
        status = Status.COMPLETED if success else Status.FAILED if is_cause else Status.CANCELED
        progress = self._record.progress[node_id]
        progress.end(status)
        if success:
            for plan in self._plans:
                if group.plan.sink is not None and group.plan.sink.stream.place in plan.source.places:
                    self._record.size(plan)
        self._log.info(events.NODE_ENDED, **_brief(progress.report().as_dict()))
        error = self._record.first_failure[2] if is_cause and self._record.first_failure is not None else None
        self._record.tell_progress(progress)
        tell(self._pipeline, NodeFinished(self._pipeline_id, node_id, success, error))
        group.is_over = True
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
        if not failure.is_fatal:  # else its row has no part in it
            self._record.progress[node_id].failed += 1
        if self._record.status is Status.RUNNING:
            self._failed(node_id, failure.record, failure.error, failure.items, ids=ids_shown(failure))
        else:  # it failed because, or while, it was being cancelled; the row is done again on resume
            self._log.warning(
                events.NODE_FAILED,
                node_id=node_id,
                kind=failure.record.kind,
                ids=ids_shown(failure),
                while_canceling=True,
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
        if self._record.first_failure is None:
            self._record.first_failure = (node_id, failure, error)
            self._record.progress[node_id].error = str(failure)
            tell(
                self._pipeline,
                NodeFailed(self._pipeline_id, node_id, failure, error or DatagenError(str(failure)), items),
            )
        self._cancel("")

    def _cancel(self, reason: str) -> None:
        """Stop everything, sink first."""
        for plan in reversed(self._plans):
            if plan.node_id in self._groups:
                self._groups[plan.node_id].cancel()
        if self._record.status is Status.RUNNING:
            self._record.status = Status.CANCELING
            self._record.reason = reason
            self._log.info(events.CANCEL, reason=reason, because_of_failure=self._record.first_failure is not None)
            self._changed()

    def _settle(self) -> None:
        if self._record.first_failure is not None:
            self._record.status = Status.FAILED
        elif all(progress.status is Status.COMPLETED for progress in self._record.progress.values()):
            self._record.status = Status.COMPLETED
        else:
            self._record.status = Status.CANCELED
            for plan in self._waiting:
                self._record.progress[plan.node_id].end(Status.CANCELED)
        self._record.save(final=True)
        node_id, failure, error = self._record.first_failure or ("", None, None)
        tell(self._pipeline, Settled(self._record.now(), node_id, failure, error))
        self.end(Outcome.FINISHED)

    def _look_around(self) -> None:
        if not self.actor_stopped.is_set():
            self._record.look_around([group.plan for group in self._groups.values()])
            self.mailbox.wake_after(TICK_SECONDS, _Tick())

    def _changed(self) -> None:
        if not self.actor_stopped.is_set():
            self._record.changed()


def _brief(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in {"usage", "error"}}
