"""The supervisor: it starts the stages, watches them, and keeps the run state. It touches no row.

The order of an end: a source that has ended ends its reader; the node ends when every row was delivered, and tells
its writer to seal; a node that had to stop is drained by the supervisor instead, without a seal. The first failure
is the cause; what follows from it never replaces it (F1).
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pykka

from llm_datagen.actors.control import PauseAnswer, PauseControl
from llm_datagen.actors.early_ends import EarlyEnds
from llm_datagen.actors.end_work import AtEnd, EndWork, EndWorkDone
from llm_datagen.actors.node_stages import NodeStages
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.run_state import RunState
from llm_datagen.actors.running_nodes import RunningNodes
from llm_datagen.actors.stage import Recipient, Refusal, Stage, refuse_unknown, tell
from llm_datagen.errors import ConfigError, DatagenError, FailureRecord, StopRun, UnknownMessageError
from llm_datagen.messages import (
    Cancel,
    ControlRequest,
    Drain,
    EndNoted,
    EndsSooner,
    Feed,
    GiveAway,
    Moved,
    OperatorFailed,
    OperatorLogged,
    OutageNoted,
    Pause,
    Reconfigure,
    RowsCommitted,
    RowsFailed,
    SourceQuiet,
    SourceSized,
    StageEnded,
    StageOutcome,
    Stalled,
    StopRequested,
    SupervisorMessage,
    TargetMet,
    TimeSpent,
    Unpause,
    UsageReported,
    UsageTotal,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import Status

TICK_SECONDS = 0.25
"""How often the status is told to the pipeline."""


@dataclass(frozen=True, slots=True)
class _Tick:
    """Timer: time for estimates, the status and a save."""


class SupervisorActor(Stage):
    """Runs the nodes of a pipeline.

    Args:
        opened_nodes: the nodes, in an order in which each comes after the one that it reads from.
        pipeline_id: the pipeline's id.
        streaming: whether all nodes run at once, or one after the other.
        folder: where the run state is saved; None for nodes that run without one.
        saved_state: the saved run state; the supervisor alone changes it from now on.
        pipeline: gets all reports; the parent.
        refs: every stage that is started is added to it.
        log: the platform log.
        at_end: what is done when all nodes are completed, before the run is.
    """

    def __init__(
        self,
        opened_nodes: list[OpenedNode],
        *,
        pipeline_id: str,
        streaming: bool,
        folder: RunFolder | None,
        saved_state: dict[str, Any],
        pipeline: Recipient,
        refs: list[pykka.ActorRef[Any]],
        log: PlatformLog,
        at_end: AtEnd | None = None,
    ) -> None:
        super().__init__("supervisor", "", pipeline)
        self._at_end = EndWork(at_end)
        self._opened_nodes = opened_nodes
        self._pipeline_id = pipeline_id
        self._pipeline = pipeline
        self._nodes = RunningNodes(
            opened_nodes,
            pipeline_id=pipeline_id,
            streaming=streaming,
            supervisor=self.actor_ref,
            refs=refs,
            log=log,
        )
        self._early_ends = EarlyEnds(opened_nodes)
        self._control = PauseControl(opened_nodes, self._nodes, saved_state, self.mailbox, log)
        self._run_state = RunState(
            opened_nodes,
            pipeline_id=pipeline_id,
            folder=folder,
            saved_state=saved_state,
            pipeline=pipeline,
            control=self._control,
            log=log,
            clock=self.clock,
        )

    def begin(self) -> None:
        """Start all nodes, or the first."""
        self._run_state.begin()
        self._leave_out()
        self._advance()
        self._tick()

    def handle(self, message: SupervisorMessage | PauseAnswer | EndWorkDone | _Tick) -> None:
        """Handle a message."""
        node_id = getattr(message, "node_id", None)
        if node_id is not None and node_id not in self._run_state.node_states:
            raise Refusal(UnknownMessageError(f"the run has no node {node_id!r}"))
        match message:
            case RowsCommitted():
                self._run_state.committed(message)
            case SourceSized(node_id=node_id):
                self._run_state.node_states[node_id].sized(message)
            case UsageReported() | UsageTotal():
                self._used(message)
            case TargetMet(node_id=node_id):
                self._target_met(node_id)
            case TimeSpent(node_id=node_id):
                self._run_state.node_states[node_id].spent(message)
            case OperatorLogged():
                tell(self._pipeline, message)
            case SourceQuiet(node_id=node_id, text=text):
                tell(self._pipeline, OperatorLogged(self._pipeline_id, node_id, "warning", text))
            case Stalled() | Moved():
                self._run_state.stall_changed(message)
            case OutageNoted():
                self._run_state.outage_noted(message)
            case RowsFailed():
                self._run_state.rows_failed(message)
            case OperatorFailed():
                self._operator_failed(message)
            case StageEnded():
                self._stage_ended(message)
            case ControlRequest(command=command, answer=answer):
                self._control_request(command, answer)
            case EndsSooner():
                self._ends_sooner(message)
            case Cancel(reason=reason, keep_jobs=keep_jobs):
                self._cancel(reason, keep_jobs=keep_jobs)
                self._nodes.hurry()
            case StopRequested(node_id=node_id, reason=reason):
                if node_id not in self._early_ends:
                    self._cancel(reason, end=Status.STOPPED, keep_jobs=True)
            case PauseAnswer():
                message.give()
            case _Tick():
                self._tick()
            case EndWorkDone():
                self._end_work_done(message)
            case _:
                refuse_unknown(message)
        if isinstance(message, StageEnded | TargetMet | Cancel | StopRequested | OperatorFailed | EndWorkDone):
            self._advance()

    def drop(self, message: Any) -> None:
        """Fail the answer to a command that will not be handled."""
        if isinstance(message, ControlRequest | EndsSooner):
            message.answer.set_exception(ActorEndedError("the run has ended"))

    def release(self) -> None:
        """End all stages: none outlives the supervisor, whatever ended it."""
        self._at_end.stop()
        self._nodes.end()

    # Starting.

    def _advance(self) -> None:
        """Start what is to run now; settle when nothing runs and nothing is left to run."""
        if self._run_state.status is Status.RUNNING and self._nodes.is_any_due:
            for stages in self._nodes.start_due():
                self._control.begin(stages)
                tell(stages.node, Feed(stages.reader))
                self._run_state.node_started(stages.opened)
        elif self._nodes.is_idle:
            if self._run_state.are_nodes_completed():
                self._at_end.begin(lambda ended: tell(self.actor_ref, ended))
            if not self._at_end.is_under_way:
                self._settle()

    def _end_work_done(self, ended: EndWorkDone) -> None:
        self._at_end.join(ended)
        for total in (total for opened in self._opened_nodes for total in self._run_state.job_totals(opened)):
            self._used(total)
        for note in ended.notes:
            tell(self._pipeline, OperatorLogged(self._pipeline_id, self._opened_nodes[-1].node_id, "warning", note))
        if isinstance(ended.error, StopRun):
            self._cancel("", keep_jobs=True)
        elif ended.error is not None:
            self._failed(self._opened_nodes[-1].node_id, FailureRecord.of(ended.error), ended.error)

    # Control.

    def _used(self, used: UsageReported | UsageTotal) -> None:
        if isinstance(used, UsageTotal):
            used = self._run_state.used_in_all(used)
        else:
            self._run_state.node_states[used.node_id].used(used)
        tell(self._pipeline, used)

    def _control_request(self, command: Pause | Unpause | Reconfigure | GiveAway, answer: Future[Any]) -> None:
        try:
            is_running = self._run_state.status is Status.RUNNING
            self._control.do(command, answer, is_running=is_running, told=self._run_state.tell_status)
        except BaseException as error:  # of a bug, too: the caller gets it
            if not answer.done():
                answer.set_exception(error)
            if not isinstance(error, ConfigError):
                raise
        self._changed()

    def _ends_sooner(self, message: EndsSooner) -> None:
        """Note it on the disk; then, and not before, the reader may tell that its source has ended."""
        is_noted = self._run_state.input_ends(message.node_id, (message.row, message.at))
        if is_noted:
            tell(self._nodes.reader_of_part(), EndNoted())
        message.answer.set_result(is_noted)

    # Ending.

    def _stage_ended(self, ended: StageEnded) -> None:
        stages = self._nodes.get(ended.node_id)
        assert stages is not None
        stages.ended[ended.role] = ended.outcome
        if ended.outcome is StageOutcome.FAILED:
            assert ended.failure is not None
            self._failed(ended.node_id, ended.failure, ended.error)
        elif (
            ended.outcome is StageOutcome.STOPPED
            and self._run_state.status is Status.RUNNING
            and ended.node_id not in self._early_ends
            # A node stops when its writer is dead; what the writer says, before or after, is the cause (F1).
            and (ended.role != "node" or stages.writer.is_alive())
        ):
            # Nobody here asked for it: somebody stopped our actor.
            error = DatagenError(f"the {ended.role} of node {ended.node_id} was stopped from outside")
            self._failed(ended.node_id, FailureRecord.of(error), error)
        if ended.role == "node" and ended.outcome is not StageOutcome.FINISHED:
            tell(stages.writer, Drain())
        if len(stages.ended) == 3:
            self._node_ended(stages)

    def _node_ended(self, stages: NodeStages) -> None:
        is_needed = stages.opened.node_id not in self._early_ends.unneeded
        success = stages.ended["writer"] is StageOutcome.FINISHED
        self._run_state.node_ended(stages.opened, success=success, is_needed=is_needed)
        stages.is_over = True
        self._changed()

    def _target_met(self, node_id: str) -> None:
        """Let the node end, and those that nobody needs any more."""
        self._run_state.target_met(node_id)
        self._early_ends.add(node_id)
        self._nodes.cancel(self._early_ends, keep_jobs=False)
        self._leave_out()

    def _leave_out(self) -> None:
        """Do not start the nodes that nobody needs."""
        for opened in self._nodes.leave_out(self._early_ends.unneeded):
            self._run_state.left_out(opened)

    def _operator_failed(self, message: OperatorFailed) -> None:
        is_cause = self._run_state.status is Status.RUNNING and message.node_id not in self._early_ends
        self._run_state.operator_failed(message, is_cause=is_cause)
        if is_cause:  # else it failed because, or while, it was being cancelled
            self._cancel("", keep_jobs=True)

    def _failed(self, node_id: str, failure: FailureRecord, error: BaseException | None) -> None:
        self._run_state.failed(node_id, failure, error)
        self._cancel("", keep_jobs=True)

    def _cancel(self, reason: str, *, end: Status = Status.CANCELED, keep_jobs: bool) -> None:
        """Stop everything, sink first. Jobs that others do go on, unless they are not to be kept."""
        self._at_end.stop()
        self._nodes.cancel(keep_jobs=keep_jobs)
        if self._run_state.status is Status.RUNNING:
            self._run_state.canceling(reason, end=end)
            self._changed()

    def _settle(self) -> None:
        unneeded = self._early_ends.unneeded
        tell(self._pipeline, self._run_state.settle(is_done=self._at_end.is_done, unneeded=unneeded))
        self.end(StageOutcome.FINISHED)

    def _tick(self) -> None:
        if not self.actor_stopped.is_set():
            self._run_state.tick([stages.opened for stages in self._nodes])
            self.mailbox.wake_after(TICK_SECONDS, _Tick())

    def _changed(self) -> None:
        if not self.actor_stopped.is_set():
            self._run_state.changed()
