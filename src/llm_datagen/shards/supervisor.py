"""The supervisor of a run in shards: it has them run, passes commands on to them, and adds up how they go.

It stands in the place of the supervisor of a run: the pipeline's actor knows no difference. It touches no row, and does
nothing that takes long: shards are run by an executor, and commands are passed on by threads of a pool.

The first failure of a shard is the cause (F1): the others are cancelled, and saved. A shard whose process died is begun
again, and goes on where it was; one that dies again and again without getting further has failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pykka

from llm_datagen.actors.deferred_reply import when_all
from llm_datagen.actors.end_work import AtEnd, EndWork, EndWorkDone
from llm_datagen.actors.refs import ActorEndedError
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.errors import DatagenError, FailureRecord, RunError, StopRun, TooManyErrorsError
from llm_datagen.executors.process.pickling import unpack_error
from llm_datagen.messages import (
    Cancel,
    ControlRequest,
    NodeFailed,
    NodeFinished,
    NodeProgressed,
    NodeStarted,
    OperatorLogged,
    Pause,
    Reconfigure,
    Settled,
    StageOutcome,
    StatusChanged,
    Unpause,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.sharded import SHARDS
from llm_datagen.runs.status import SETTLED, NodeReport, PipelineStatus, Status
from llm_datagen.shards.executor import Command, ShardExecutor, ShardHandle, ShardJob, ShardOutcome
from llm_datagen.shards.limits import Limits
from llm_datagen.shards.standing import Standing
from llm_datagen.streams.storage.owner import now_text

LOOK_SECONDS = 0.05
"""How often it is looked whether a shard has ended."""

TICK_SECONDS = 0.25
"""How often the status is told to the pipeline."""

TRIES = 3
"""How often a shard may be begun that dies without getting further."""

PAUSE_SECONDS = 0.75
"""When a pause is answered at the latest."""

_SENDERS = 16


@dataclass(frozen=True, slots=True)
class _Look:
    """Timer: look whether shards have ended."""


@dataclass(frozen=True, slots=True)
class _Changed:
    """From a thread of the pool: the shards that run have taken a change of a node over."""

    command: Reconfigure
    answer: Future[Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _AnswerNow:
    """A pause is to be answered: all shards have, or it has taken long enough."""

    answer: Future[Any] = field(repr=False)


class ShardSupervisor(Stage):
    """Runs the shards of a pipeline.

    Args:
        standing: where they stand.
        job_of: makes what is sent to whoever runs a shard.
        executor: runs them; closed at the end.
        limits: what may be changed while they run.
        folder: that of the whole, where its run state is saved.
        saved_state: the run state of the whole; the supervisor alone changes it from now on.
        pipeline: gets all reports; the parent.
        log: the platform log.
        at_end: what is done when all shards are completed, before the run is.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        job_of: Callable[[int], ShardJob],
        executor: ShardExecutor,
        limits: Limits,
        folder: RunFolder,
        saved_state: dict[str, Any],
        pipeline: Recipient,
        log: PlatformLog,
        at_end: AtEnd | None,
    ) -> None:
        super().__init__("supervisor", "", pipeline)
        self._standing, self._job_of, self._executor, self._limits = standing, job_of, executor, limits
        self._folder, self._saved_state, self._pipeline, self._log = folder, saved_state, pipeline, log
        self._at_end = EndWork(at_end)
        self._pool = ThreadPoolExecutor(_SENDERS, "datagen-shard-commands")
        self._left = deque(standing.left)
        self._running: dict[int, ShardHandle] = {}
        self._tries: dict[int, tuple[int, int]] = {}  # deaths in a row at so many rows, by the shard
        self._status, self._reason, self._end = Status.RUNNING, "", Status.CANCELED
        self._is_paused = False
        self._cause: tuple[str, FailureRecord, BaseException | None] | None = None
        self._failed_row: str | None = None
        self._told: dict[str, tuple[int, int | None]] = {}
        self._last_told = self._last_save = float("-inf")

    @property
    def _pipeline_id(self) -> str:
        return self._folder.pipeline_id

    def begin(self) -> None:
        """Begin the first shards."""
        for entry in self._saved_state["nodes"]:
            tell(self._pipeline, NodeStarted(self._pipeline_id, entry["node_id"], entry))
        self._look()

    def handle(self, message: Any) -> None:
        """Handle a message."""
        match message:
            case _Look():
                self._look()
            case ControlRequest(command=command, answer=answer):
                self._control(command, answer)
            case _Changed(command=command, answer=answer):
                answer.set_result(self._limits.change(command))
            case _AnswerNow(answer=answer):
                if not answer.done():
                    answer.set_result(self._now())
            case Cancel(reason=reason):
                self._cancel(reason)
            case EndWorkDone():
                self._end_work_done(message)
            case _:
                refuse_unknown(message)

    def drop(self, message: Any) -> None:
        """Fail the answer to a command that will not be handled."""
        if isinstance(message, ControlRequest | _Changed | _AnswerNow) and not message.answer.done():
            message.answer.set_exception(ActorEndedError("the run has ended"))

    def release(self) -> None:
        """End all shards: none outlives the supervisor, whatever ended it."""
        self._at_end.stop()
        try:
            self._executor.close()
        finally:
            self._pool.shutdown()

    # Shards.

    def _look(self) -> None:
        """See which shards have ended, begin others, tell how things are."""
        if self.actor_stopped.is_set():
            return
        ended = [(number, outcome) for number, handle in self._running.items() if (outcome := handle.wait(0))]
        for number, outcome in ended:
            del self._running[number]
            self._shard_ended(number, outcome)
        self._start_due()
        self._tick(is_due=bool(ended))
        self._advance()
        if not self.actor_stopped.is_set():
            self.mailbox.wake_after(LOOK_SECONDS, _Look())

    def _start_due(self) -> None:
        most = self._executor.workers
        while self._left and self._status is Status.RUNNING and not self._is_paused:
            if most is not None and len(self._running) >= most:
                return
            number = self._left.popleft()
            try:
                self._running[number] = self._executor.start(self._job_of(number))
            except DatagenError as error:
                self._failed("", FailureRecord.of(error), error)
                return
            self._log.info(events.SHARD_STARTED, shard=number)

    def _shard_ended(self, number: int, outcome: ShardOutcome) -> None:
        try:
            self._standing.read(number)
        except DatagenError as error:  # its run state cannot be read
            outcome = ShardOutcome(str(Status.FAILED), f"{outcome.error or 'it has ended'}; and then: {error}")
        self._log.info(events.SHARD_ENDED, shard=number, status=outcome.status, error=outcome.error)
        if outcome.is_lost:
            self._lost(number, outcome)
        elif outcome.status == Status.FAILED:
            state = self._standing.states.get(number, {})
            self._failed_row = self._failed_row or state.get("failed_row")
            self._failed(outcome.node_id, *_failure_of(number, outcome))
        elif outcome.status != Status.COMPLETED and self._status is Status.RUNNING:
            # An operator has stopped it (StopRun), or somebody has cancelled this one shard: so ends the run.
            end = Status.STOPPED if outcome.status == Status.STOPPED else Status.CANCELED
            self._cancel(outcome.error or f"shard {number} was cancelled", end=end)

    def _lost(self, number: int, outcome: ShardOutcome) -> None:
        """Begin a shard again whose process died, unless it does not get further."""
        if self._status is not Status.RUNNING:
            return
        rows = self._standing.rows_done(number)
        tries, before = self._tries.get(number, (0, -1))
        tries = 1 if rows > before else tries + 1
        self._tries[number] = tries, rows
        if tries >= TRIES:
            text = (
                f"shard {number} was begun {tries} times at the same place, and its process died each time: "
                f"{outcome.error}. A row that kills its process is found by executor='process' of its node, which has "
                "that row fail alone"
            )
            error = RunError(text)
            self._failed("", FailureRecord.of(error), error)
            return
        text = f"{outcome.error}; it is begun again, and goes on where it was ({rows:,} rows are done)"
        self._log.warning(events.SHARD_LOST, shard=number, tries=tries, rows=rows, message=text)
        self._tell_log(text)
        self._left.appendleft(number)

    def _advance(self) -> None:
        """Settle when nothing runs and nothing is left to run."""
        if self._running or self._at_end.is_under_way:
            return
        if self._left and self._status is Status.RUNNING:
            return  # paused
        if self._status is Status.RUNNING and not self._standing.left:
            self._at_end.begin(lambda ended: tell(self.actor_ref, ended))
            if self._at_end.is_under_way:
                return
        self._settle()

    def _end_work_done(self, ended: EndWorkDone) -> None:
        self._at_end.join(ended)
        for note in ended.notes:
            self._tell_log(note)
        if isinstance(ended.error, StopRun):
            self._cancel("")
        elif ended.error is not None:
            self._failed("", FailureRecord.of(ended.error), ended.error)
        self._advance()

    def _settle(self) -> None:
        if self._cause is not None:
            self._status = Status.FAILED
        elif self._status is Status.RUNNING and self._at_end.is_done:
            self._status = Status.COMPLETED
        else:
            self._status = self._end
        self._tick(is_due=True)
        for report in self._standing.reports():
            error = self._cause[2] if self._cause and self._cause[0] == report.node_id else None
            is_done = report.status in SETTLED
            tell(self._pipeline, NodeFinished(self._pipeline_id, report.node_id, is_done, error))
        self._save(final=True)
        node_id, failure, error = self._cause or ("", None, None)
        tell(self._pipeline, Settled(self._now(), node_id, failure, error))
        self.end(StageOutcome.FINISHED)

    # Control.

    def _control(self, command: Pause | Unpause | Reconfigure, answer: Future[Any]) -> None:
        is_running = self._status is Status.RUNNING
        match command:
            case Reconfigure():
                try:
                    self._limits.check(command, is_running=is_running)
                except DatagenError as error:
                    self._log.warning(events.REFUSED, node_id=command.node_id, error=str(error))
                    answer.set_exception(error)
                    return
                self._pool.submit(self._pass_change_on, command, list(self._running.values()), answer)
            case Pause() if is_running:
                if not self._is_paused:
                    self._log.info(events.PAUSED)
                self._is_paused = True
                self.mailbox.wake_after(PAUSE_SECONDS, _AnswerNow(answer), key=f"answer {id(answer)}")
                when_all(self._send(command), lambda: _tell(self.actor_ref, _AnswerNow(answer)))
                self._tick(is_due=True)
            case Unpause() if is_running:
                if self._is_paused:
                    self._log.info(events.UNPAUSED)
                self._is_paused = False
                self._send(command)
                answer.set_result(self._now())
                self._look()
            case _:
                answer.set_result(self._now())

    def _send(self, command: Command) -> list[Future[None]]:
        """Pass a command on to all shards that run; what they answer is not waited for."""
        return [self._pool.submit(_told, handle, command) for handle in self._running.values()]

    def _pass_change_on(self, command: Reconfigure, handles: Sequence[ShardHandle], answer: Future[Any]) -> None:
        """Change a node in all shards that run. On a thread of the pool."""
        for handle in handles:
            try:
                handle.send(self._limits.of_shard(command))
            except DatagenError as error:
                if _has_ended(error):
                    continue
                answer.set_exception(error)
                return
        try:
            self.actor_ref.tell(_Changed(command, answer))
        except pykka.ActorDeadError:
            answer.set_exception(ActorEndedError("the run has ended"))

    # Ending.

    def _failed(self, node_id: str, failure: FailureRecord, error: BaseException | None) -> None:
        self._log.error(events.NODE_FAILED, node_id=node_id, kind=failure.kind, ids=[], while_canceling=False)
        if self._cause is None:
            self._cause = node_id, failure, error
            if node_id:
                tell(self._pipeline, NodeFailed(self._pipeline_id, node_id, failure, error or RunError(str(failure))))
        self._cancel("")

    def _cancel(self, reason: str, *, end: Status = Status.CANCELED) -> None:
        """Begin no shard, and cancel those that run."""
        self._at_end.stop()
        if self._status is Status.RUNNING:
            self._status, self._reason, self._end = Status.CANCELING, reason, end
            self._log.info(events.CANCEL, reason=reason, because_of_failure=self._cause is not None)
            self._send(Cancel(reason))
            self._tick(is_due=True)

    # Telling.

    def _now(self) -> PipelineStatus:
        return PipelineStatus(
            pipeline_id=self._pipeline_id,
            status=self._status,
            nodes=self._standing.reports(),
            reason=self._reason,
            error=str(self._cause[1]) if self._cause else None,
            failed_row=self._failed_row,
            paused=self._is_paused and self._status is Status.RUNNING,
        )

    def _tick(self, *, is_due: bool) -> None:
        """Tell how things are, and save that if the last time is long enough ago."""
        now = self.clock.monotonic()
        if not is_due and now - self._last_told < TICK_SECONDS:
            return
        self._last_told = now
        for number, handle in self._running.items():
            if (known := handle.status()) is not None:
                self._standing.now(number, known)
        status = self._now()
        self._check_errors(status.nodes)
        for report in status.nodes:
            if self._told.get(report.node_id) != (report.rows_in, report.total):
                self._told[report.node_id] = report.rows_in, report.total
                meta = self._meta(report)
                tell(
                    self._pipeline,
                    NodeProgressed(self._pipeline_id, report.node_id, report.rows_in, report.total, meta),
                )
        tell(self._pipeline, StatusChanged(status))
        self._folder.check()
        if now - self._last_save >= self._folder.save_seconds:
            self._save()

    def _meta(self, report: NodeReport) -> Mapping[str, Any]:
        return {**report.as_dict(), SHARDS: self._counts()}

    def _counts(self) -> dict[str, int]:
        """Return how many shards there are, are done, and run."""
        standing = self._standing
        return {"count": len(standing.numbers), "done": len(standing.done), "running": len(self._running)}

    def _check_errors(self, reports: Sequence[NodeReport]) -> None:
        """Fail when more rows failed in all shards together than may; each shard by itself looks at its own."""
        for report, entry in zip(reports, self._saved_state["nodes"], strict=True):
            most, failed = entry["max_errors"], report.skipped + report.dead_letters
            if self._cause is None and isinstance(most, int) and failed > most and self._status is Status.RUNNING:
                error = TooManyErrorsError(f"{failed:,} rows failed in all shards together, and max_errors is {most:,}")
                self._failed(report.node_id, FailureRecord.of(error), error)

    def _save(self, *, final: bool = False) -> None:
        self._last_save = self.clock.monotonic()
        now = self._now()
        fields = ("reason", "error", "failed_row", "paused", "usage", "cost")
        self._saved_state.update({name: getattr(now, name) for name in fields}, status=str(now.status))
        self._saved_state[SHARDS] = {**self._saved_state[SHARDS], **self._counts()}
        if final:
            self._saved_state["ended_at"] = now_text()
        for entry, report in zip(self._saved_state["nodes"], now.nodes, strict=True):
            entry.update(report.as_dict())
        self._folder.save(self._saved_state, may_wait=not final)

    def _tell_log(self, text: str) -> None:
        node_id = self._saved_state["nodes"][0]["node_id"]
        tell(self._pipeline, OperatorLogged(self._pipeline_id, node_id, "warning", text))


def _tell(ref: Recipient, message: Any) -> None:
    tell(ref, message)


def _told(handle: ShardHandle, command: Command) -> None:
    """Tell a shard a command. One that has ended, or does not answer, does what it does."""
    try:
        handle.send(command)
    except DatagenError:
        return


def _has_ended(error: DatagenError) -> bool:
    return isinstance(error, RunError) and "has ended" in str(error)


def _failure_of(number: int, outcome: ShardOutcome) -> tuple[FailureRecord, BaseException | None]:
    if outcome.failure is not None:
        return outcome.failure, unpack_error(outcome.packed, outcome.failure)
    error = RunError(f"shard {number}: {outcome.error}")
    return FailureRecord.of(error), error
