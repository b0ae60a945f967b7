"""The supervisor: it starts the stages, watches them, and keeps the image. It touches no row.

The order of an end: a source that has ended ends its reader; the node ends when every row was delivered, and tells
its writer to seal; a node that had to stop is drained by the supervisor instead, without a seal. The first failure
is the cause; what follows from it never replaces it (F1).
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import pykka

from llm_datagen.actors.node_stages import NodeStages
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.run_state import RunState
from llm_datagen.actors.stage import Recipient, Refusal, Stage, refuse_unknown, tell
from llm_datagen.actors.steering import ANSWER_SECONDS, PauseAnswer, PauseControl
from llm_datagen.errors import ConfigError, DatagenError, FailureRecord, UnknownMessageError
from llm_datagen.messages import (
    Attach,
    Cancel,
    Drain,
    Feed,
    Moved,
    OperatorFailed,
    OperatorLogged,
    Pause,
    Reconfigure,
    RowsCommitted,
    RowsFailed,
    SourceQuiet,
    SourceSized,
    StageEnded,
    StageOutcome,
    Stalled,
    Steer,
    StopRequested,
    SupervisorMessage,
    TimeSpent,
    Unpause,
    UsageReported,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import Status

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
        plans: list[OpenedNode],
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
        self._groups: dict[str, NodeStages] = {}
        self._waiting = [plan for plan in plans if plan.sink is not None]
        self._steering = PauseControl(plans, image, log)
        self._record = RunState(
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
        self._record.begin()
        self._go_on()
        self._look_around()

    def handle(self, message: SupervisorMessage | PauseAnswer | _Tick) -> None:
        """Handle a message."""
        node_id = getattr(message, "node_id", None)
        if node_id is not None and node_id not in self._record.progress:
            raise Refusal(UnknownMessageError(f"the run has no node {node_id!r}"))
        match message:
            case RowsCommitted():
                self._record.committed(message)
            case SourceSized(node_id=node_id):
                self._record.progress[node_id].sized(message)
            case UsageReported(node_id=node_id):
                self._record.progress[node_id].used(message)
                tell(self._pipeline, message)
            case TimeSpent(node_id=node_id):
                self._record.progress[node_id].spent(message)
            case OperatorLogged():
                tell(self._pipeline, message)
            case SourceQuiet(node_id=node_id, text=text):
                tell(self._pipeline, OperatorLogged(self._pipeline_id, node_id, "warning", text))
            case Stalled():
                self._record.stalled(message)
            case Moved(node_id=node_id):
                self._record.progress[node_id].stalled = None
                self._changed()
            case RowsFailed():
                self._record.rows_failed(message)
            case OperatorFailed():
                self._operator_failed(message)
            case StageEnded():
                self._stage_ended(message)
            case Steer(order=order, answer=answer):
                self._steer(order, answer)
            case Cancel(reason=reason):
                self._cancel(reason)
            case StopRequested(reason=reason):
                self._cancel(reason, end=Status.STOPPED)
            case PauseAnswer():
                message.give()
            case _Tick():
                self._look_around()
            case _:
                refuse_unknown(message)
        if isinstance(message, StageEnded | Cancel | StopRequested | OperatorFailed):
            self._go_on()

    def drop(self, message: Any) -> None:
        """Let nobody wait for an answer that will not come."""
        if isinstance(message, Steer):
            message.answer.set_exception(ActorEndedError("the run has ended"))

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

    def _start(self, plan: OpenedNode) -> None:
        group = NodeStages.start(plan, self._pipeline_id, self.actor_ref, self._crew, self._log)
        self._groups[plan.node_id] = group
        for other in self._groups.values():
            if other.plan.reads(plan):
                tell(group.writer, Attach(other.reader))
        self._steering.begin(group.node, group.reader)
        tell(group.node, Feed(group.reader))
        self._record.node_started(plan)

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
        if ended.outcome is StageOutcome.FAILED:
            assert ended.failure is not None
            self._failed(ended.node_id, ended.failure, ended.error)
        elif (
            ended.outcome is StageOutcome.STOPPED
            and self._record.status is Status.RUNNING
            # A node stops when its writer is dead; what the writer says, before or after, is the cause (F1).
            and (ended.role != "node" or group.writer.is_alive())
        ):
            # Nobody here asked for it: somebody stopped our actor.
            error = DatagenError(f"the {ended.role} of node {ended.node_id} was stopped from outside")
            self._failed(ended.node_id, FailureRecord.of(error), error)
        if ended.role == "node" and ended.outcome is not StageOutcome.FINISHED:
            tell(group.writer, Drain())
        if len(group.ended) == 3:
            self._node_ended(group)

    def _node_ended(self, group: NodeStages) -> None:
        self._record.node_ended(group.plan, success=group.ended["writer"] is StageOutcome.FINISHED)
        group.is_over = True
        self._changed()

    def _operator_failed(self, message: OperatorFailed) -> None:
        was_running = self._record.status is Status.RUNNING
        self._record.operator_failed(message)
        if was_running:  # else it failed because, or while, it was being cancelled
            self._cancel("")

    def _failed(self, node_id: str, failure: FailureRecord, error: BaseException | None) -> None:
        self._record.failed(node_id, failure, error)
        self._cancel("")

    def _cancel(self, reason: str, *, end: Status = Status.CANCELED) -> None:
        """Stop everything, sink first."""
        for plan in reversed(self._plans):
            if plan.node_id in self._groups:
                self._groups[plan.node_id].cancel()
        if self._record.status is Status.RUNNING:
            self._record.canceling(reason, end=end)
            self._changed()

    def _settle(self) -> None:
        tell(self._pipeline, self._record.settle())
        self.end(StageOutcome.FINISHED)

    def _look_around(self) -> None:
        if not self.actor_stopped.is_set():
            self._record.look_around([group.plan for group in self._groups.values()])
            self.mailbox.wake_after(TICK_SECONDS, _Tick())

    def _changed(self) -> None:
        if not self.actor_stopped.is_set():
            self._record.changed()
