"""The node: it hands out work. It sees blocks of rows, never a row."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pykka

from llm_datagen.actors.backlog import Backlog
from llm_datagen.actors.chunking import BYTES_AHEAD, LATE_SECONDS, AdaptiveChunking
from llm_datagen.actors.delivery import OrderedDelivery
from llm_datagen.actors.error_budget import ErrorBudget
from llm_datagen.actors.executor_factory import make_delivery, make_executor, make_processing
from llm_datagen.actors.executor_start import ExecutorStart
from llm_datagen.actors.in_flight import InFlight
from llm_datagen.actors.metrics import WorkerMetrics
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.pause import PAUSE_SECONDS, PauseGate, PauseOver
from llm_datagen.actors.rate_limit import RateLimit
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.actors.watchdog import StallWatchdog
from llm_datagen.errors import FailureRecord, StopRun
from llm_datagen.messages import (
    Batch,
    Cancel,
    Demand,
    EndOfSource,
    Feed,
    Finish,
    Moved,
    NodeMessage,
    OperatorFailed,
    OperatorFailure,
    PauseCalls,
    Resize,
    RowsFailed,
    StageOutcome,
    Stalled,
    StopRequested,
    TaskDone,
    UnpauseCalls,
)
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.streams import Block

PATIENCE_SECONDS = 0.002
"""An operator whose first calls take longer is slow: all workers may begin."""


@dataclass(frozen=True, slots=True)
class _Patience:
    """Timer: the first calls have not come back."""


@dataclass(frozen=True, slots=True)
class _Started:
    """The workers are ready, or `setup` has raised."""

    error: BaseException | None


@dataclass(frozen=True, slots=True)
class _CheckStall:
    """Timer: see whether anything has moved."""


@dataclass(frozen=True, slots=True)
class _CheckLate:
    """Timer: see whether a task is late."""


@dataclass(frozen=True, slots=True)
class _RateWait:
    """Timer: the rate allows more rows."""


@dataclass(frozen=True, slots=True)
class _GraceOver:
    """Timer: calls in flight were waited for long enough."""


_Timer = _Patience | _CheckLate | _CheckStall | _RateWait | _GraceOver


class NodeActor(Stage):
    """Hands rows to workers, as many at once as it may, and asks its reader for more in time.

    Args:
        opened: the node.
        pipeline_id: the pipeline's id, for the operator's context.
        supervisor: the supervisor.
        writer: the ref of the writer that takes the results.
        log: the platform log.
    """

    def __init__(
        self, opened: OpenedNode, pipeline_id: str, supervisor: Recipient, writer: pykka.ActorRef[Any], log: PlatformLog
    ) -> None:
        super().__init__("node", opened.node_id, supervisor)
        self._opened = opened
        self._supervisor = supervisor
        self._writer = writer
        self._reader: Recipient | None = None
        self._log = log.bind(node_id=opened.node_id)
        self._ctx = NodeContext(pipeline_id, opened.node_id, supervisor, log, folder=opened.folder)
        self._delivery = make_delivery(opened, writer, self.actor_ref, self._ctx)
        position = opened.position
        self._error_budget = ErrorBudget(
            opened.policy, done=position.coverage.rows, failed=position.skipped + position.dead
        )
        processing = make_processing(opened, self._ctx, self._error_budget.allowance)
        self._pause_gate = PauseGate(processing.gate, self._ctx)
        self._executor = make_executor(opened, processing, self._delivery)
        self._starting = ExecutorStart(self._executor, opened.node_id)
        self._in_flight = InFlight(self._executor, step=opened.step, workers=opened.concurrency, root=opened.root)
        self._backlog = Backlog(opened.step if opened.call.batch else 0, processing.parent_batches)
        self._chunking = AdaptiveChunking(
            opened.concurrency,
            opened.step,
            opened.step if opened.dispatched is not None else opened.writer.queue_size,
            spare=self._executor.spare_tasks if self._may_queue else 0,
            may_queue=self._may_queue,
            is_gil_bound=self._executor.is_gil_bound,
            task_seconds=self._executor.task_seconds,
        )
        self._rate_limit = RateLimit(self.clock, opened.rate)
        self._watchdog = StallWatchdog(self.clock, opened.stall_after)
        self._is_given_up = False
        self._metrics = WorkerMetrics(opened.node_id, opened.concurrency, supervisor)
        self._total: int | None = None
        self._source_size = 0
        self._is_demanding = False
        self._is_checking_late = False
        self._is_stopping = False

    @property
    def _may_queue(self) -> bool:
        """Whether tasks may wait for a worker: they could be abandoned, exceed a limit, or overtake a single worker."""
        opened = self._opened
        return opened.concurrency > 1 and opened.dispatched is None and opened.policy.max_errors is None

    def begin(self) -> None:
        """Start the workers; the operator's `setup` runs, aside."""
        self._starting.begin(self._tell_started)
        self._watchdog.moved()
        self._check_stall_later()

    def _tell_started(self, error: BaseException | None) -> None:
        """Tell this actor, from another thread."""
        tell(self.actor_ref, _Started(error))

    def _started(self, error: BaseException | None) -> None:
        self._starting.is_on = False
        self._watchdog.moved()
        if isinstance(error, StopRun):
            self._stop_run(FailureRecord.of(error))
        elif error is not None:
            raise error
        elif self._starting.is_resized:
            self._resize()

    def handle(
        self,
        message: NodeMessage | _Started | _Patience | _CheckLate | _CheckStall | _RateWait | _GraceOver | PauseOver,
    ) -> None:
        """Handle a message."""
        match message:
            case Feed(reader=reader):
                self._reader = reader
            case Batch(block=block):
                self._watchdog.moved()
                self._is_demanding = False
                self._backlog.add(block)
            case EndOfSource(total=total, size=size):
                self._is_demanding = False
                self._total, self._source_size = total, size
                self._backlog.close()
            case TaskDone():
                self._take(message)
            case _Started(error=error):
                self._started(error)
            case _Patience():
                self._chunking.open_up()
            case _CheckLate():
                self._cut_late()
            case _CheckStall():
                self._check_stall()
            case _RateWait():
                pass  # what can be done now is done below
            case _GraceOver():
                self._give_up_calls()
            case PauseCalls(paused=paused):
                self._pause(paused)
            case UnpauseCalls():
                self._pause_gate.end()
            case PauseOver():
                self._pause_gate.answer()
            case Resize():
                self._resize()
            case Cancel():
                self._wind_down()
            case _:
                refuse_unknown(message)
        self._advance()

    def drop(self, message: Any) -> None:
        """Let nobody wait for calls of a node that has ended."""
        if isinstance(message, PauseCalls):
            message.paused.set_result(None)

    def release(self) -> None:
        """Wait for the workers; the operator's `teardown` runs."""
        self._ctx.cancel()
        self._pause_gate.answer()
        self._metrics.tell()
        if self._opened.dispatched is not None:
            self._opened.dispatched.close()
        try:
            self._executor.stop(wait=not self._is_given_up)
        except BaseException as error:  # noqa: BLE001 - the rows are done: a failing teardown does not undo them
            self._log.error(events.TEARDOWN_FAILED, error=str(FailureRecord.of(error)))
        self._starting.stop(wait=not self._is_given_up)
        if not self._is_given_up:
            self._delivery.close()

    def _advance(self) -> None:
        """Do what can be done now: hand out work, ask for more, end."""
        if not self._in_flight:
            self._pause_gate.answer()
        if self._starting.is_on and not self._is_given_up:
            return
        while not self._is_stopping and not self._pause_gate.is_on and self._has_room():
            rows = self._rate_limit.rows()
            if not rows:
                self.mailbox.wake_after(self._rate_limit.wait(), _RateWait(), key="rate")
                break
            block = self._next_block(rows)
            if block is None:
                break
            self._hand_out(block)
        if self._is_stopping:
            if not self._in_flight:
                self.end(StageOutcome.STOPPED)
        elif self._total is not None and not self._in_flight and not self._backlog.rows:
            tell(self._writer, Finish(self._total, self._source_size))
            self.end(StageOutcome.FINISHED)
        else:
            self._demand()

    def _has_room(self) -> bool:
        """Return whether another task may run: there is a worker, and what cheap tasks hold in memory is bounded."""
        is_much = self._chunking.is_grouping and self._in_flight.bytes >= BYTES_AHEAD and len(self._in_flight) > 1
        return len(self._in_flight) < self._chunking.tasks and not is_much

    def _next_block(self, rows: int) -> Block | None:
        if isinstance(self._delivery, OrderedDelivery):
            ahead = self._backlog.start - self._delivery.next_row
            if ahead >= self._chunking.ordered_span() and ahead >= self._chunking.ordered_span(self._in_flight.largest):
                return None
        return self._backlog.take(min(rows, self._chunking.rows_per_task))

    def _hand_out(self, block: Block) -> None:
        if self._opened.dispatched is not None:
            self._opened.dispatched.handed_out(block.span)
        self._in_flight.hand_out(block)
        self._rate_limit.spend(len(block.records))
        if self._in_flight.made == 1:
            self.mailbox.wake_after(PATIENCE_SECONDS, _Patience())
        if len(block.records) > self._opened.step:
            self._check_late_later()

    def _demand(self) -> None:
        if self._is_demanding or self._total is not None or self._reader is None:
            return
        ahead = self._chunking.rows_ahead
        if self._backlog.rows > ahead // 2:
            return
        if self._backlog.bytes < BYTES_AHEAD or self._backlog.rows <= self._opened.step:
            self._is_demanding = True
            tell(self._reader, Demand(ahead - self._backlog.rows))

    # Being steered.

    def _pause(self, paused: Future[None]) -> None:
        self._pause_gate.begin(paused)
        for rest in self._in_flight.cut_all():
            self._put_back(rest)
        self.mailbox.wake_after(PAUSE_SECONDS, PauseOver(), key="hold")

    def _resize(self) -> None:
        if self._starting.is_on:
            self._starting.is_resized = True
            return
        self._rate_limit.change(self._opened.rate)
        workers = self._opened.concurrency
        self._executor.resize(workers)
        self._in_flight.workers = self._metrics.workers = workers
        spare = self._executor.spare_tasks if self._may_queue else 0
        self._chunking.resize(workers, spare=spare, may_queue=self._may_queue)

    # A slow row holds up no others: what was grouped with it and not begun is taken back.

    def _check_late_later(self) -> None:
        if not self._is_checking_late:
            self._is_checking_late = True
            self.mailbox.wake_after(LATE_SECONDS, _CheckLate(), key="late")

    def _cut_late(self) -> None:
        """Cut the tasks that have been in one and the same call since the last look."""
        self._is_checking_late = False
        late = self._in_flight.late()
        if len(late) < self._in_flight.grouped:
            self._check_late_later()
        for number in late:
            self._chunking.slow_down()
            rest = self._in_flight.cut(number)
            if rest is not None:
                self._put_back(rest)

    def _take(self, ended: TaskDone) -> None:
        self._in_flight.take(ended.task)
        self._watchdog.moved()
        # Rows that cannot be parsed took no call, but time.
        self._chunking.learn(max(ended.calls, len(ended.survived)), ended.seconds, ended.cpu_seconds)
        self._metrics.add(ended, self.clock.monotonic())
        if ended.survived:
            self._error_budget.count_survived(ended.survived)
            tell(self._supervisor, RowsFailed(self.node_id, ended.survived, self._error_budget.is_dead_lettered))
        if ended.calls or ended.survived:  # else these are rows that failed, and were counted then
            self._error_budget.count_done(ended.rows)
        rest = ended.rest
        if ended.lost:  # the writer has failed, and says why itself
            self._wind_down()
        elif ended.failure is not None and rest is not None and not self._is_stopping:
            if ended.failure.is_stop:
                self._stop_run(ended.failure.record)
            else:
                rest = self._without_failed(rest, ended.failure)
        if rest is not None and rest.records:
            self._put_back(rest, is_unknown=ended.failure is not None and ended.failure.is_unknown)

    def _put_back(self, rest: Block, *, is_unknown: bool = False) -> None:
        self._backlog.put_back(rest)
        self._rate_limit.give_back(len(rest.records))
        if self._opened.dispatched is not None and not is_unknown:
            self._opened.dispatched.came_back(rest.span)

    def _without_failed(self, rest: Block, failure: OperatorFailure) -> Block:
        """Do with the rows that failed, the first of `rest`, what the policy says; return the others."""
        fatal = self._error_budget.end_by(failure)
        if fatal is not None:
            self._give_up(fatal)
            return rest
        tell(self._supervisor, RowsFailed(self.node_id, (failure,), self._error_budget.is_dead_lettered))
        failed, rest = rest.split_at(failure.rows)
        self._in_flight.deliver(failed, self._error_budget.outcome(failed, failure))
        return rest

    def _give_up(self, failure: OperatorFailure) -> None:
        tell(self._supervisor, OperatorFailed(self.node_id, failure))
        self._wind_down()

    def _stop_run(self, reason: FailureRecord) -> None:
        """End the whole run in good order: the operator says so."""
        tell(self._supervisor, StopRequested(reason.text))
        self._wind_down()

    def _wind_down(self) -> None:
        if not self._is_stopping:
            self.mailbox.wake_after(self._opened.grace, _GraceOver(), key="grace")
        self._is_stopping = True
        self._ctx.cancel()
        for rest in self._in_flight.cut_all():
            self._put_back(rest)

    def _give_up_calls(self) -> None:
        """End without the calls that are still in flight: their rows are not done."""
        self._log.warning(
            events.GRACE_OVER, grace_s=self._opened.grace, ids=[str(i) for i in self._in_flight.ids_begun()]
        )
        self._is_given_up = True
        self._in_flight.give_up()

    def _check_stall_later(self) -> None:
        self.mailbox.wake_after(self._opened.stall_after / 4, _CheckStall(), key="look")

    def _check_stall(self) -> None:
        """Say once that nothing moves, and once that something does again."""
        if self._pause_gate.is_on:
            self._watchdog.moved()
        waits_on = self._waits_on()
        if self._watchdog.is_over():
            tell(self._supervisor, Moved(self.node_id))
        elif waits_on and self._watchdog.has_begun():
            tell(
                self._supervisor,
                Stalled(
                    pipeline_id=self._ctx.pipeline_id,
                    node_id=self.node_id,
                    seconds=self._watchdog.still,
                    waits_on=waits_on,
                    ids=self._in_flight.ids_begun(),
                    in_flight=self._in_flight.rows_begun,
                ),
            )
        self._check_stall_later()

    def _waits_on(self) -> str:
        """Return what a node in which nothing moves waits for; "" when there is nothing to be done."""
        if self._in_flight:
            is_writer = self._delivery.waiting >= min(len(self._in_flight), self._opened.concurrency)
            return "writer" if is_writer else "operator"
        return "upstream" if self._is_demanding else ""
