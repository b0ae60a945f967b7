"""The host: a long-lived actor that runs a pipeline whenever it is told to, and stays after each run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import pykka
from pykka._envelope import Envelope

from llm_datagen.actors.deferred_reply import defer_reply, forward, take
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.stage import Recipient, Refusal, Stage, refuse_unknown
from llm_datagen.actors.subscribers import Subscribers
from llm_datagen.errors import FailureRecord, NotRunningError, PipelineBusyError
from llm_datagen.messages import (
    Cancel,
    Event,
    GetStatus,
    HostMessage,
    Pause,
    PipelineFinished,
    Reconfigure,
    Resume,
    Run,
    StatusChanged,
    Subscribe,
    Unpause,
)
from llm_datagen.runs.status import ENDED, PipelineStatus


class HostedRun(Protocol):
    """A run, as its host sees it."""

    @property
    def ref(self) -> pykka.ActorRef[Any] | None:
        """Its actor."""

    def cancel(self, reason: str = "", *, keep_jobs: bool) -> None:
        """Have it end; jobs at batch APIs go on, if they are to be kept."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended."""


Launch = Callable[[Run | Resume, Recipient], HostedRun]
"""Begins a run that reports to the given recipient. May take a while: files are checked. Raises why it cannot begin."""


@dataclass(frozen=True, slots=True)
class _Launched:
    """From the thread that launches: the run goes, or why not."""

    command: Run | Resume
    run: HostedRun | None
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _FromRun:
    """From the run: its status, or an event."""

    message: StatusChanged | Event


@dataclass(frozen=True, slots=True)
class _RunLink:
    """What a run knows of its host. A run begins when the one before it has ended, so their messages come in order."""

    host: Recipient

    def tell(self, message: Any) -> None:
        """Pass a message on."""
        self.host.tell(_FromRun(message))


class PipelineHost(Stage):
    """Runs a pipeline when it is told to, one run at a time, and answers for the run that is under way.

    Args:
        status: what to answer before the first run.
        launch: begins a run. Called on a thread of its own, so that this actor always answers.
    """

    def __init__(self, status: PipelineStatus, launch: Launch) -> None:
        super().__init__("host", status.pipeline_id)
        self._status = status
        self._launch = launch
        self._subscribers = Subscribers()
        self._run: HostedRun | None = None
        self._launcher: threading.Thread | None = None
        self._is_under_way = False
        self._deferred: list[Envelope[Any]] = []  # until the run that is being launched is known
        self._answer: Future[Any] = Future()
        self._stopped: list[Future[Any]] = []  # who has asked for the end, and waits

    def handle(self, message: HostMessage | _Launched | _FromRun) -> PipelineStatus | None:
        """Handle a message."""
        match message:
            case GetStatus():
                return self._status
            case Run() | Resume():
                self._begin(message)
            case _Launched():
                self._launched(message)
            case Cancel() | _FromRun() if self._launcher is not None:
                self._deferred.append(Envelope(message))
            case Pause() | Unpause() | Reconfigure() if self._launcher is not None:
                self._deferred.append(take(self.mailbox))
            case Cancel(reason=reason, keep_jobs=keep_jobs):
                if self._run is not None:
                    self._run.cancel(reason, keep_jobs=keep_jobs)
            case Pause() | Unpause() | Reconfigure():
                self._control_request(message)
            case Subscribe(ref=ref, kinds=kinds):
                self._subscribers.add(ref, kinds)
            case _FromRun(message=report):
                if isinstance(report, StatusChanged):
                    self._status_changed(report.status)
                else:
                    self._subscribers.publish(report)
            case _:
                refuse_unknown(message)
        return None

    def on_stop(self) -> None:
        """Let whoever stops this actor wait until the run is saved."""
        super().on_stop()
        self._stopped.append(defer_reply(self.mailbox))

    def release(self) -> None:
        """End the run that is under way, and wait until it is saved."""
        try:
            self._end_run()
        finally:
            for stopped in self._stopped:
                stopped.set_result(None)

    def _end_run(self) -> None:
        for envelope in self._deferred:
            self._dismiss(envelope)
        if self._launcher is not None:
            self._launcher.join()
        if self._run is not None:
            why = f"failed: {self._failure}" if self._failure else "was stopped"
            self._run.cancel(f"the pipeline's host {why}", keep_jobs=True)
            self._run.wait()
        if not self._answer.done():
            self._answer.set_exception(ActorEndedError("the pipeline's host was stopped"))

    def _begin(self, command: Run | Resume) -> None:
        if self._is_under_way:
            raise Refusal(
                PipelineBusyError(
                    f"run {self._status.pipeline_id!r} is under way: cancel it, or wait for its PipelineFinished, "
                    "before the next one"
                )
            )
        self._answer, self._is_under_way = defer_reply(self.mailbox), True
        launcher = threading.Thread(target=self._do_launch, args=(command,), name="datagen-launcher")
        launcher.start()
        self._launcher = launcher

    def _do_launch(self, command: Run | Resume) -> None:
        run: HostedRun | None = None
        error: BaseException | None = None
        try:
            self._run = run = self._launch(command, _RunLink(self.actor_ref))
        except BaseException as caught:  # noqa: BLE001 - whoever has asked gets it
            error = caught
        try:
            self.actor_ref.tell(_Launched(command, run, error))
        except pykka.ActorDeadError:  # it was stopped meanwhile, and ends the run itself
            return

    def _launched(self, launched: _Launched) -> None:
        self._launcher = None
        if launched.error is not None:
            self._is_under_way = False
            command, failure = launched.command, FailureRecord.of(launched.error)
            pipeline_id = command.pipeline_id if isinstance(command, Resume) else self._status.pipeline_id
            finished = PipelineFinished(pipeline_id, "failed", failure, launched.error)
            self._deferred.append(Envelope(_FromRun(finished)))  # after the last events of the run before it
            if not self._answer.done():
                self._answer.set_exception(launched.error)
        deferred, self._deferred = self._deferred, []
        self.mailbox.put_first(deferred)

    def _status_changed(self, status: PipelineStatus) -> None:
        """Take the run's status; the first one of a run is the reply to the command that began it."""
        self._status = status
        self._is_under_way = status.status not in ENDED
        if not self._answer.done():
            self._answer.set_result(status)

    def _control_request(self, command: Pause | Unpause | Reconfigure) -> None:
        ref = None if self._run is None else self._run.ref
        if ref is not None and ref.is_alive():
            forward(self.mailbox, ref)
        else:
            defer_reply(self.mailbox).set_exception(
                NotRunningError(f"no run is under way, so there is nothing to {type(command).__name__.lower()}")
            )
