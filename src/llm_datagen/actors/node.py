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
from llm_datagen.actors.executor_factory import make_delivery, make_executor, make_kernel
from llm_datagen.actors.executor_start import ExecutorStart
from llm_datagen.actors.in_flight import InFlight
from llm_datagen.actors.metrics import WorkerMetrics
from llm_datagen.actors.node_context import NodeContext
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.pause import HOLD_SECONDS, PauseGate, PauseOver
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
class _Look:
    """Timer: see whether anything has moved."""


@dataclass(frozen=True, slots=True)
class _Late:
    """Timer: see whether a task is late."""


@dataclass(frozen=True, slots=True)
class _RateWait:
    """Timer: the rate allows more rows."""


@dataclass(frozen=True, slots=True)
class _GraceOver:
    """Timer: calls in flight were waited for long enough."""


class NodeActor(Stage):
    """Hands rows to workers, as many at once as it may, and asks its reader for more in time.

    Args:
        plan: the node.
        pipeline_id: the pipeline's id, for the operator's context.
        boss: the supervisor.
        writer: the ref of the writer that takes the results.
        log: the platform log.
    """

    def __init__(
        self, plan: OpenedNode, pipeline_id: str, boss: Recipient, writer: pykka.ActorRef[Any], log: PlatformLog
    ) -> None:
        super().__init__("node", plan.node_id, boss)
        self._plan = plan
        self._supervisor = boss
        self._writer = writer
        self._reader: Recipient | None = None
        self._log = log.bind(node_id=plan.node_id)
        self._ctx = NodeContext(pipeline_id, plan.node_id, boss, log, folder=plan.folder)
        self._delivery = make_delivery(plan, writer, self.actor_ref, self._ctx)
        position = plan.position
        self._failed = ErrorBudget(plan.policy, done=position.coverage.rows, failed=position.skipped + position.dead)
        kernel = make_kernel(plan, self._ctx, self._failed.allowance)
        self._holding = PauseGate(kernel, self._ctx)
        self._executor = make_executor(plan, kernel, self._delivery)
        self._starting = ExecutorStart(self._executor, plan.node_id)
        self._tasks = InFlight(self._executor, step=plan.step, workers=plan.concurrency, root=plan.root)
        self._backlog = Backlog(plan.step if plan.call.batch else 0, kernel.siblings)
        self._pace = AdaptiveChunking(
            plan.concurrency,
            plan.step,
            plan.step if plan.dispatched is not None else plan.writer.queue_size,
            spare=self._executor.spare_tasks if self._may_queue else 0,
            may_queue=self._may_queue,
            is_gil_bound=self._executor.is_gil_bound,
            task_seconds=self._executor.task_seconds,
        )
        self._rate = RateLimit(self.clock, plan.rate)
        self._stall = StallWatchdog(self.clock, plan.stall_after)
        self._is_given_up = False
        self._times = WorkerMetrics(plan.node_id, plan.concurrency, boss)
        self._total: int | None = None
        self._source_size = 0
        self._is_demanding = False
        self._is_looking_for_late = False
        self._is_stopping = False

    @property
    def _may_queue(self) -> bool:
        """Whether tasks may wait for a worker: they could be abandoned, exceed a limit, or overtake a single worker."""
        plan = self._plan
        return plan.concurrency > 1 and plan.dispatched is None and plan.policy.max_errors is None

    def begin(self) -> None:
        """Start the workers; the operator's `setup` runs, aside."""
        self._starting.begin(self._tell_started)
        self._stall.moved()
        self._look_later()

    def _tell_started(self, error: BaseException | None) -> None:
        """Tell this actor, from another thread."""
        tell(self.actor_ref, _Started(error))

    def _started(self, error: BaseException | None) -> None:
        self._starting.is_on = False
        self._stall.moved()
        if isinstance(error, StopRun):
            self._stop_run(FailureRecord.of(error))
        elif error is not None:
            raise error
        elif self._starting.is_resized:
            self._resize()

    def handle(
        self, message: NodeMessage | _Started | _Patience | _Late | _Look | _RateWait | _GraceOver | PauseOver
    ) -> None:
        """Handle a message."""
        match message:
            case Feed(reader=reader):
                self._reader = reader
            case Batch(block=block):
                self._stall.moved()
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
                self._pace.open_up()
            case _Late():
                self._cut_late()
            case _Look():
                self._look()
            case _RateWait():
                pass  # what can be done now is done below
            case _GraceOver():
                self._give_up_calls()
            case PauseCalls(held=held):
                self._hold(held)
            case UnpauseCalls():
                self._holding.end()
            case PauseOver():
                self._holding.answer()
            case Resize():
                self._resize()
            case Cancel():
                self._wind_down()
            case _:
                refuse_unknown(message)
        self._go_on()

    def drop(self, message: Any) -> None:
        """Let nobody wait for calls of a node that has ended."""
        if isinstance(message, PauseCalls):
            message.held.set_result(None)

    def release(self) -> None:
        """Wait for the workers; the operator's `teardown` runs."""
        self._ctx.cancel()
        self._holding.answer()
        self._times.tell()
        if self._plan.dispatched is not None:
            self._plan.dispatched.close()
        try:
            self._executor.stop(wait=not self._is_given_up)
        except BaseException as error:  # noqa: BLE001 - the rows are done: a failing teardown does not undo them
            self._log.error(events.TEARDOWN_FAILED, error=str(FailureRecord.of(error)))
        self._starting.stop(wait=not self._is_given_up)
        if not self._is_given_up:
            self._delivery.close()

    def _go_on(self) -> None:
        """Do what can be done now: hand out work, ask for more, end."""
        if not self._tasks:
            self._holding.answer()
        if self._starting.is_on and not self._is_given_up:
            return
        while not self._is_stopping and not self._holding.is_on and self._has_room():
            rows = self._rate.rows()
            if not rows:
                self.mailbox.wake_after(self._rate.wait(), _RateWait(), key="rate")
                break
            block = self._next_block(rows)
            if block is None:
                break
            self._hand_out(block)
        if self._is_stopping:
            if not self._tasks:
                self.end(StageOutcome.STOPPED)
        elif self._total is not None and not self._tasks and not self._backlog.rows:
            tell(self._writer, Finish(self._total, self._source_size))
            self.end(StageOutcome.FINISHED)
        else:
            self._demand()

    def _has_room(self) -> bool:
        """Return whether another task may run: there is a worker, and what cheap tasks hold in memory is bounded."""
        is_much = self._pace.is_grouping and self._tasks.bytes >= BYTES_AHEAD and len(self._tasks) > 1
        return len(self._tasks) < self._pace.tasks and not is_much

    def _next_block(self, rows: int) -> Block | None:
        if isinstance(self._delivery, OrderedDelivery):
            ahead = self._backlog.start - self._delivery.next_row
            if ahead >= self._pace.ordered_span() and ahead >= self._pace.ordered_span(self._tasks.largest):
                return None
        return self._backlog.take(min(rows, self._pace.rows_per_task))

    def _hand_out(self, block: Block) -> None:
        if self._plan.dispatched is not None:
            self._plan.dispatched.handed_out(block.span)
        self._tasks.hand_out(block)
        self._rate.spend(len(block.records))
        if self._tasks.made == 1:
            self.mailbox.wake_after(PATIENCE_SECONDS, _Patience())
        if len(block.records) > self._plan.step:
            self._look_for_late_tasks()

    def _demand(self) -> None:
        if self._is_demanding or self._total is not None or self._reader is None:
            return
        ahead = self._pace.rows_ahead
        if self._backlog.rows > ahead // 2:
            return
        if self._backlog.bytes < BYTES_AHEAD or self._backlog.rows <= self._plan.step:
            self._is_demanding = True
            tell(self._reader, Demand(ahead - self._backlog.rows))

    # Being steered.

    def _hold(self, held: Future[None]) -> None:
        self._holding.begin(held)
        for rest in self._tasks.cut_all():
            self._put_back(rest)
        self.mailbox.wake_after(HOLD_SECONDS, PauseOver(), key="hold")

    def _resize(self) -> None:
        if self._starting.is_on:
            self._starting.is_resized = True
            return
        self._rate.change(self._plan.rate)
        workers = self._plan.concurrency
        self._executor.resize(workers)
        self._tasks.workers = self._times.workers = workers
        spare = self._executor.spare_tasks if self._may_queue else 0
        self._pace.resize(workers, spare=spare, may_queue=self._may_queue)

    # A slow row holds up no others: what was grouped with it and not begun is taken back.

    def _look_for_late_tasks(self) -> None:
        if not self._is_looking_for_late:
            self._is_looking_for_late = True
            self.mailbox.wake_after(LATE_SECONDS, _Late(), key="late")

    def _cut_late(self) -> None:
        """Cut the tasks that have been in one and the same call since the last look."""
        self._is_looking_for_late = False
        late = self._tasks.late()
        if len(late) < self._tasks.grouped:
            self._look_for_late_tasks()
        for number in late:
            self._pace.slow_down()
            rest = self._tasks.cut(number)
            if rest is not None:
                self._put_back(rest)

    def _take(self, done: TaskDone) -> None:
        self._tasks.take(done.task)
        self._stall.moved()
        # Rows that cannot be parsed took no call, but time.
        self._pace.learn(max(done.calls, len(done.survived)), done.seconds, done.cpu_seconds)
        self._times.add(done, self.clock.monotonic())
        if done.survived:
            self._failed.count_survived(done.survived)
            tell(self._supervisor, RowsFailed(self.node_id, done.survived, self._failed.is_dead_letter))
        if done.calls or done.survived:  # else these are rows that failed, and were counted then
            self._failed.count_done(done.rows)
        rest = done.rest
        if done.lost:  # the writer has failed, and says why itself
            self._wind_down()
        elif done.failure is not None and rest is not None and not self._is_stopping:
            if done.failure.is_stop:
                self._stop_run(done.failure.record)
            else:
                rest = self._without_failed(rest, done.failure)
        if rest is not None and rest.records:
            self._put_back(rest, is_unknown=done.failure is not None and done.failure.is_unknown)

    def _put_back(self, rest: Block, *, is_unknown: bool = False) -> None:
        self._backlog.put_back(rest)
        self._rate.give_back(len(rest.records))
        if self._plan.dispatched is not None and not is_unknown:
            self._plan.dispatched.came_back(rest.span)

    def _without_failed(self, rest: Block, failure: OperatorFailure) -> Block:
        """Do with the rows that failed, the first of `rest`, what the policy says; return the others."""
        fatal = self._failed.end_by(failure)
        if fatal is not None:
            self._give_up(fatal)
            return rest
        tell(self._supervisor, RowsFailed(self.node_id, (failure,), self._failed.is_dead_letter))
        failed, rest = rest.split_at(failure.rows)
        self._tasks.deliver(failed, self._failed.outcome(failed, failure))
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
            self.mailbox.wake_after(self._plan.grace, _GraceOver(), key="grace")
        self._is_stopping = True
        self._ctx.cancel()
        for rest in self._tasks.cut_all():
            self._put_back(rest)

    def _give_up_calls(self) -> None:
        """End without the calls that are still in flight: their rows are not done."""
        self._log.warning(events.GRACE_OVER, grace_s=self._plan.grace, ids=[str(i) for i in self._tasks.ids_begun()])
        self._is_given_up = True
        self._tasks.give_up()

    def _look_later(self) -> None:
        self.mailbox.wake_after(self._plan.stall_after / 4, _Look(), key="look")

    def _look(self) -> None:
        """Say once that nothing moves, and once that something does again."""
        if self._holding.is_on:
            self._stall.moved()
        waits_on = self._waits_on()
        if self._stall.is_over():
            tell(self._supervisor, Moved(self.node_id))
        elif waits_on and self._stall.has_begun():
            tell(
                self._supervisor,
                Stalled(
                    pipeline_id=self._ctx.pipeline_id,
                    node_id=self.node_id,
                    seconds=self._stall.still,
                    waits_on=waits_on,
                    ids=self._tasks.ids_begun(),
                    in_flight=self._tasks.rows_begun,
                ),
            )
        self._look_later()

    def _waits_on(self) -> str:
        """Return what a node in which nothing moves waits for; "" when there is nothing to be done."""
        if self._tasks:
            is_writer = self._delivery.waiting >= min(len(self._tasks), self._plan.concurrency)
            return "writer" if is_writer else "operator"
        return "upstream" if self._is_demanding else ""
