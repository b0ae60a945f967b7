"""The pipeline actor: one run, for other actors. It answers at once, because it does no work itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pykka

from llm_datagen.actors.deferred_reply import defer_reply
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.stage import Recipient, Refusal, Stage, hurry, refuse_unknown, tell
from llm_datagen.actors.subscribers import Subscribers
from llm_datagen.actors.supervisor import SupervisorActor
from llm_datagen.errors import DatagenError, FailureRecord, PipelineBusyError, UnknownMessageError
from llm_datagen.messages import (
    Cancel,
    ControlRequest,
    Event,
    GetStatus,
    GiveAway,
    Pause,
    PipelineFinished,
    PipelineMessage,
    PipelineStarted,
    Reconfigure,
    Resume,
    RowDeadLettered,
    RowsFailed,
    Run,
    Settled,
    StageEnded,
    StageOutcome,
    StatusChanged,
    Subscribe,
    Unpause,
)
from llm_datagen.runs.status import PipelineStatus, Status

StartSupervisor = Callable[[Recipient], "pykka.ActorRef[SupervisorActor]"]


SAVE_SECONDS = 1.0
"""How long each request to a store may take, for the state and the lease of a run, when it is cancelled."""


class PipelineActor(Stage):
    """Controls one run, answers for it, and publishes its events to subscribers.

    Args:
        status: what to answer before it runs.
        config: the configuration, for subscribers.
        start_supervisor: starts the supervisor, given this actor's ref.
        subscribers: hear of events from the beginning.
        settled: resolved, with how the run ended, when this actor has ended.
        clean_up: called when the run has ended, before `settled` is resolved, in this actor's thread.
        host: gets every status, besides the events that it subscribes to; None when the run has no host.
    """

    def __init__(
        self,
        status: PipelineStatus,
        config: dict[str, Any],
        start_supervisor: StartSupervisor,
        subscribers: Subscribers,
        settled: Future[Settled],
        clean_up: Callable[[], None],
        host: Recipient | None = None,
    ) -> None:
        super().__init__("pipeline", status.pipeline_id)
        self._status = status
        self._config = config
        self._start_supervisor = start_supervisor
        self._supervisor: pykka.ActorRef[SupervisorActor] | None = None
        self._subscribers = subscribers
        self._host = host
        self._settled = settled
        self._clean_up = clean_up
        self._result: Settled | None = None
        self._was_told_to_run = False

    def handle(self, message: PipelineMessage) -> PipelineStatus | None:
        """Handle a message."""
        match message:
            case GetStatus():
                return self._status
            case Run() if not self._was_told_to_run:
                self._was_told_to_run = True
                self._run()
            case Run() | Resume():
                raise Refusal(
                    PipelineBusyError(
                        f"run {self._status.pipeline_id!r} is running already: cancel it, or wait for its end, before "
                        "the next one; pipeline.actor() has a ref for all runs"
                    )
                )
            case Cancel():
                self._cancel(message)
            case Pause() | Unpause() | Reconfigure() | GiveAway():
                self._control_request(message)
            case Subscribe(ref=ref, kinds=kinds):
                self._subscribers.add(ref, kinds)
            case StatusChanged(status=status):
                self._status = status
                tell(self._host, message)
            case Settled(status=status):
                self._status = status
                self._result = message
            case StageEnded():
                self._supervisor_ended(message)
            case RowsFailed():
                self._rows_failed(message)
            case _ if isinstance(message, Event):
                self._publish(message)
            case _:
                refuse_unknown(message)
        return None

    def release(self) -> None:
        """Tell everyone how it ended, clean up, and resolve the future."""
        if self._result is None:  # this actor itself was stopped, or has failed
            tell(self._supervisor, Cancel("the pipeline's actor was stopped", keep_jobs=True))
            error = self._error or DatagenError("the pipeline's actor was stopped from outside")
            self._result = Settled(_failed(self._status, error), "", FailureRecord.of(error), error)
        result = self._result
        status = result.status
        finished = PipelineFinished(
            self._status.pipeline_id, str(status.status), result.failure, result.error, status.reason
        )
        try:
            tell(self._host, StatusChanged(result.status))
            self._publish(finished)
            self._clean_up()
        finally:
            self._settled.set_result(result)

    def _run(self) -> None:
        if self._supervisor is None:
            self._publish(PipelineStarted(self._status.pipeline_id, self._config))
            self._supervisor = self._start_supervisor(self.actor_ref)

    def _cancel(self, cancel: Cancel) -> None:
        if self._supervisor is None:  # before Run: there is nothing to end
            self._run()
        tell(self._supervisor, cancel)
        if self._supervisor is not None:
            hurry(self._supervisor, SAVE_SECONDS)
        self.mailbox.interrupt.hurry(SAVE_SECONDS)  # for the lease of the run, which is given back at its end

    def _control_request(self, command: Pause | Unpause | Reconfigure | GiveAway) -> None:
        """Pass a command on; the supervisor answers it, so that this actor always answers."""
        if self._supervisor is None:
            self._run()
        answer = defer_reply(self.mailbox)
        if not tell(self._supervisor, ControlRequest(command, answer)):
            answer.set_exception(ActorEndedError("the run has ended"))

    def _supervisor_ended(self, ended: StageEnded) -> None:
        if ended.role != "supervisor":
            raise Refusal(UnknownMessageError("only the supervisor's end is for a pipeline"))
        if self._result is None:
            error = ended.error or DatagenError("the supervisor was stopped from outside")
            self._result = Settled(_failed(self._status, error), "", FailureRecord.of(error), error)
        self.end(StageOutcome.FINISHED)

    def _rows_failed(self, message: RowsFailed) -> None:
        if not self._subscribers.want(RowDeadLettered):  # where many rows fail, an event for each takes time
            return
        for failure in message.failures:
            self._publish(
                RowDeadLettered(
                    self._status.pipeline_id,
                    message.node_id,
                    failure.ids,
                    failure.record,
                    message.is_dead_lettered,
                    failure.error,
                    failure.items,
                )
            )

    def _publish(self, event: Event) -> None:
        self._subscribers.publish(event)


def _failed(status: PipelineStatus, error: BaseException) -> PipelineStatus:
    return PipelineStatus(
        pipeline_id=status.pipeline_id, status=Status.FAILED, nodes=status.nodes, error=str(FailureRecord.of(error))
    )
