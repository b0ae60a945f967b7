"""The supervisor of a run in shards: it has them run, passes commands on to them, and adds up how they go.

It stands in the place of the supervisor of a run: the pipeline's actor knows no difference. It touches no row, and does
nothing that takes long: shards are run by an executor, and commands are passed on by threads of a pool.

The first failure of a shard is the cause (F1): the others are cancelled, and saved. A shard whose process died is begun
again, and goes on where it was; one that dies again and again without getting further has failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.actors.control import PauseAnswer
from llm_datagen.actors.end_work import AtEnd, EndWork, EndWorkDone
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.errors import DatagenError, FailureRecord, RunError, StopRun
from llm_datagen.executors.process.pickling import unpack_error
from llm_datagen.messages import Cancel, ControlRequest, StageOutcome
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.shards.control import Changed, ShardControl
from llm_datagen.shards.executor import PassEventsOn, ShardExecutor, ShardHandle, ShardJob, ShardOutcome
from llm_datagen.shards.limits import Limits
from llm_datagen.shards.lost_shards import LostShards
from llm_datagen.shards.splitter import Asked, Splitter
from llm_datagen.shards.standing import Standing
from llm_datagen.shards.whole_state import WholeState

LOOK_SECONDS = 0.05
"""How often it is looked whether a shard has ended."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Timer: look whether shards have ended."""


class ShardSupervisor(Stage):
    """Runs the shards of a pipeline.

    Args:
        standing: where they stand.
        job_of: makes what is sent to whoever runs a shard.
        executor: runs them; closed at the end.
        limits: what may be changed while they run.
        splitter: has slow shards give rows away when workers have nothing to do.
        folder: that of the whole, where its run state is saved.
        saved_state: the run state of the whole; the supervisor alone changes it from now on.
        pipeline: gets all reports; the parent.
        log: the platform log.
        at_end: what is done when all shards are completed, before the run is.
        is_watched: says whether somebody hears of the events that shards pass on.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        job_of: Callable[[int], ShardJob],
        executor: ShardExecutor,
        limits: Limits,
        splitter: Splitter,
        folder: RunFolder,
        saved_state: dict[str, Any],
        pipeline: Recipient,
        log: PlatformLog,
        at_end: AtEnd | None,
        is_watched: Callable[[], bool],
    ) -> None:
        super().__init__("supervisor", "", pipeline)
        self._standing, self._job_of, self._executor, self._log = standing, job_of, executor, log
        self._at_end, self._is_watched, self._are_watched = EndWork(at_end), is_watched, False
        self._left = deque(standing.left)
        self._running: dict[int, ShardHandle] = {}
        self._lost_shards = LostShards(standing, log)
        self._splitter = splitter
        self._control = ShardControl(limits, self.actor_ref, self.mailbox, log)
        self._state = WholeState(
            standing,
            folder=folder,
            saved_state=saved_state,
            pipeline=pipeline,
            control=self._control,
            log=log,
            clock=self.clock,
        )

    def begin(self) -> None:
        """Begin the first shards."""
        self._state.begin()
        self._splitter.save()
        self._look()

    def handle(self, message: Any) -> None:
        """Handle a message."""
        match message:
            case _Look():
                self._look()
            case Asked():
                self._asked(message)
            case ControlRequest():
                self._control_request(message)
            case Changed():
                self._control.changed(message)
            case PauseAnswer():
                message.give()
            case Cancel(reason=reason, keep_jobs=keep_jobs):
                self._cancel(reason, keep_jobs=keep_jobs)
            case EndWorkDone():
                self._end_work_done(message)
            case _:
                refuse_unknown(message)

    def drop(self, message: Any) -> None:
        """Fail the answer to a command that will not be handled."""
        if isinstance(message, ControlRequest | Changed):
            message.answer.set_exception(ActorEndedError("the run has ended"))

    def release(self) -> None:
        """End all shards: none outlives the supervisor, whatever ended it."""
        self._at_end.stop()
        try:
            self._executor.close()
        finally:
            self._control.close()
            self._splitter.close()

    # Shards.

    def _look(self) -> None:
        """See which shards have ended, begin others, tell how things are."""
        if self.actor_stopped.is_set():
            return
        ended = [(number, outcome) for number, handle in self._running.items() if (outcome := handle.wait(0))]
        for number, outcome in ended:
            self._state.pass_events_on(self._running.pop(number))
            self._shard_ended(number, outcome)
        self._start_due()
        self._have_events_passed_on()
        if not self._left and not self._control.is_paused and self._state.status is Status.RUNNING:
            self._splitter.ask(self._running, self.clock.monotonic(), self.actor_ref)
        self._tick(is_due=bool(ended))
        self._advance()
        if not self.actor_stopped.is_set():
            self.mailbox.wake_after(LOOK_SECONDS, _Look())

    def _start_due(self) -> None:
        most = self._executor.workers
        while self._left and self._state.status is Status.RUNNING and not self._control.is_paused:
            if most is not None and len(self._running) >= most:
                return
            number = self._left.popleft()
            try:
                self._running[number] = self._executor.start(self._job_of(number))
            except DatagenError as error:
                self._failed("", FailureRecord.of(error), error)
                return
            self._log.info(events.SHARD_STARTED, shard=number)

    def _have_events_passed_on(self) -> None:
        """Tell shards that somebody watches the whole now; those that begin later know it from their job."""
        if not self._are_watched and self._is_watched():
            self._are_watched = True
            self._control.send(PassEventsOn(), list(self._running.values()))

    def _asked(self, asked: Asked) -> None:
        """Begin what a shard has given away."""
        try:
            self._left.extend(self._splitter.answered(asked))
        except DatagenError as error:
            self._failed("", FailureRecord.of(error), error)
        self._start_due()
        self._advance()

    def _shard_ended(self, number: int, outcome: ShardOutcome) -> None:
        try:
            self._standing.read(number)
            self._left.extend(self._splitter.save())
        except DatagenError as error:  # its run state, or the plan, cannot be read
            outcome = ShardOutcome(str(Status.FAILED), f"{outcome.error or 'it has ended'}; and then: {error}")
        self._log.info(events.SHARD_ENDED, shard=number, status=outcome.status, error=outcome.error)
        if outcome.is_lost:
            self._lost(number, outcome)
        elif outcome.status == Status.FAILED:
            known = self._standing.states.get(number, {}) if outcome.node_id else {}  # else it has not begun
            failed_row = known.get("failed_row")
            self._state.failed_row = self._state.failed_row or failed_row
            self._failed(outcome.node_id, *_failure_of(number, outcome))
        elif outcome.status != Status.COMPLETED and self._state.status is Status.RUNNING:
            # An operator has stopped it (StopRun), or somebody has cancelled this one shard: so ends the run.
            end = Status.STOPPED if outcome.status == Status.STOPPED else Status.CANCELED
            self._cancel(outcome.error or f"shard {number} was cancelled", end=end, keep_jobs=True)

    def _lost(self, number: int, outcome: ShardOutcome) -> None:
        """Begin a shard again whose process died, unless it does not get further."""
        if self._state.status is not Status.RUNNING:
            return
        try:
            self._state.tell_log(self._lost_shards.lost(number, outcome))
        except RunError as error:
            self._failed("", FailureRecord.of(error), error)
        else:
            self._left.appendleft(number)

    def _advance(self) -> None:
        """Settle when nothing runs and nothing is left to run."""
        if self._running or self._at_end.is_under_way or self._splitter.is_asking:
            return
        if self._left and self._state.status is Status.RUNNING:
            return  # paused
        if self._state.status is Status.RUNNING and not self._standing.left:
            self._at_end.begin(lambda ended: tell(self.actor_ref, ended))
            if self._at_end.is_under_way:
                return
        self._state.settle(is_done=self._at_end.is_done)
        self.end(StageOutcome.FINISHED)

    def _end_work_done(self, ended: EndWorkDone) -> None:
        self._at_end.join(ended)
        for note in ended.notes:
            self._state.tell_log(note)
        if isinstance(ended.error, StopRun):
            self._cancel("", keep_jobs=True)
        elif ended.error is not None:
            self._failed("", FailureRecord.of(ended.error), ended.error)
        self._advance()

    def _control_request(self, request: ControlRequest) -> None:
        self._control.do(
            request.command,
            request.answer,
            list(self._running.values()),
            is_running=self._state.status is Status.RUNNING,
            told=self._state.tell_status,
        )
        self._start_due()
        self._tick(is_due=True)

    # Ending.

    def _failed(self, node_id: str, failure: FailureRecord, error: BaseException | None) -> None:
        self._state.failed(node_id, failure, error)
        self._cancel("", keep_jobs=True)

    def _cancel(self, reason: str, *, end: Status = Status.CANCELED, keep_jobs: bool) -> None:
        """Begin no shard, and cancel those that run. Jobs that others do go on, unless they are not to be kept."""
        self._at_end.stop()
        if self._state.status is Status.RUNNING:
            self._state.canceling(reason, end=end)
            self._control.send(Cancel(reason, keep_jobs), list(self._running.values()))
            self._tick(is_due=True)

    def _tick(self, *, is_due: bool) -> None:
        told = self._state.tick(self._running.values(), is_due=is_due)
        if told is not None and self._state.status is Status.RUNNING:
            self._check_errors(told.nodes)

    def _check_errors(self, reports: Sequence[NodeReport]) -> None:
        """Fail when more rows failed in all shards together than may."""
        found = self._state.too_many_errors(reports)
        if found is not None:
            node_id, error = found
            self._failed(node_id, FailureRecord.of(error), error)


def _failure_of(number: int, outcome: ShardOutcome) -> tuple[FailureRecord, BaseException | None]:
    if outcome.failure is not None:
        return outcome.failure, unpack_error(outcome.packed, outcome.failure)
    error = RunError(f"shard {number}: {outcome.error}")
    return FailureRecord.of(error), error
