"""The node: it hands out work. It sees blocks of rows, never a row."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pykka

from llm_datagen import log as events
from llm_datagen.actors.backlog import Backlog
from llm_datagen.actors.context import NodeContext
from llm_datagen.actors.delivery import Delivery, OrderedDelivery
from llm_datagen.actors.holding import HOLD_SECONDS, Holding, HoldOver
from llm_datagen.actors.pace import BYTES_AHEAD, LATE_SECONDS, Pace
from llm_datagen.actors.plan import NodePlan
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.errors import FailureRecord, TooManyErrorsError
from llm_datagen.executors.base import Executor
from llm_datagen.executors.done import Done
from llm_datagen.executors.loop import LoopExecutor
from llm_datagen.executors.threads import ThreadExecutor
from llm_datagen.executors.work import Kernel
from llm_datagen.ids import Id
from llm_datagen.log import PlatformLog
from llm_datagen.messages import (
    AllowCalls,
    Batch,
    Cancel,
    Demand,
    EndOfSource,
    Feed,
    Finish,
    HoldCalls,
    Moved,
    NodeMessage,
    OperatorFailed,
    OperatorFailure,
    Outcome,
    Resize,
    RowsFailed,
    Stalled,
    TaskDone,
)
from llm_datagen.streams import Block, Span
from llm_datagen.streams.rows import named

IDS_SHOWN = 10
"""Ids of rows in flight that a stalled node names, at most."""

PATIENCE_SECONDS = 0.002
"""An operator whose first calls take longer is slow: all workers may begin."""


@dataclass(frozen=True, slots=True)
class _Patience:
    """Timer: the first calls have not come back."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Timer: see whether anything has moved."""


@dataclass(frozen=True, slots=True)
class _Late:
    """Timer: see whether a task is late."""


@dataclass(slots=True)
class _Task:
    """Rows that were handed out."""

    block: Block
    held: int = 0
    """Bytes that count as in flight."""
    left: int = -1
    """Rows that were not begun when it was last looked at."""


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
        self, plan: NodePlan, pipeline_id: str, boss: Recipient, writer: pykka.ActorRef[Any], log: PlatformLog
    ) -> None:
        super().__init__("node", plan.node_id, boss)
        self._plan = plan
        self._supervisor = boss
        self._writer = writer
        self._reader: Recipient | None = None
        self._log = log.bind(node_id=plan.node_id)
        self._ctx = NodeContext(pipeline_id, plan.node_id, boss, log)
        self._delivery = self._make_delivery()
        self._kernel = self._make_kernel()
        self._holding = Holding(self._kernel)
        self._executor = self._make_executor()
        self._backlog = Backlog(plan.step if plan.call.batch else 0)
        self._pace = Pace(
            plan.concurrency,
            plan.step,
            plan.step if plan.dispatched is not None else plan.writer.queue_size,
            spare=self._executor.spare_tasks if self._may_queue else 0,
            may_queue=self._may_queue,
            is_gil_bound=self._executor.is_gil_bound,
            task_seconds=self._executor.task_seconds,
        )
        self._running: dict[int, _Task] = {}
        self._bytes_running = 0
        self._moved = self.clock.monotonic()
        self._is_stalled = False
        self._is_given_up = False
        self._tasks = 0
        self._rows_done = plan.position.coverage.rows  # with those that failed
        self._rows_failed = plan.position.skipped + plan.position.dead
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

    def _make_delivery(self) -> Delivery:
        plan = self._plan
        sync = not plan.writer.async_mode
        if plan.ordered:
            return OrderedDelivery(self._writer, self.actor_ref, sync=sync, segments=plan.segments)
        return Delivery(self._writer, self.actor_ref, sync=sync)

    def _make_kernel(self) -> Kernel:
        plan = self._plan
        assert plan.sink is not None
        return Kernel(
            plan.call,
            source=plan.source,
            encoder=plan.sink.encoder,
            ctx=self._ctx,
            batch_size=plan.batch_size,
            id_scheme=plan.id_scheme,
            is_root=plan.is_root,
            policy=plan.policy,
            spool_folder=plan.sink.stream.spool_folder,
        )

    def _make_executor(self) -> Executor:
        plan, kernel = self._plan, self._kernel
        if plan.packed is not None:
            from llm_datagen.executors.processes import ProcessExecutor

            return ProcessExecutor(
                plan.node_id,
                plan.packed,
                kernel,
                self._delivery,
                plan.concurrency,
                policy=plan.policy,
                may_repeat=plan.dispatched is None,
            )
        make = LoopExecutor if plan.call.is_async else ThreadExecutor
        return make(plan.node_id, plan.operator, kernel, self._delivery, plan.concurrency)

    def begin(self) -> None:
        """Start the workers; the operator's `setup` runs."""
        self._executor.start()
        self._moved = self.clock.monotonic()
        self._look_later()

    def handle(self, message: NodeMessage | _Patience | _Late | _Look | _GraceOver | HoldOver) -> None:
        """Handle a message."""
        match message:
            case Feed(reader=reader):
                self._reader = reader
            case Batch(block=block):
                self._moved = self.clock.monotonic()
                self._is_demanding = False
                self._backlog.add(block)
            case EndOfSource(total=total, size=size):
                self._is_demanding = False
                self._total, self._source_size = total, size
                self._backlog.close()
            case TaskDone():
                self._take(message)
            case _Patience():
                self._pace.open_up()
            case _Late():
                self._cut_late()
            case _Look():
                self._look()
            case _GraceOver():
                self._give_up_calls()
            case HoldCalls(held=held):
                self._hold(held)
            case AllowCalls():
                self._holding.end()
            case HoldOver():
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
        if isinstance(message, HoldCalls):
            message.held.set_result(None)

    def release(self) -> None:
        """Wait for the workers; the operator's `teardown` runs."""
        self._ctx.cancel()
        self._holding.answer()
        if self._plan.dispatched is not None:
            self._plan.dispatched.close()
        try:
            self._executor.stop(wait=not self._is_given_up)
        except BaseException as error:  # noqa: BLE001 - the rows are done: a failing teardown does not undo them
            self._log.error(events.TEARDOWN_FAILED, error=repr(error))

    def _go_on(self) -> None:
        """Do what can be done now: hand out work, ask for more, end."""
        if not self._running:
            self._holding.answer()
        while not self._is_stopping and not self._holding.is_on and self._has_room():
            block = self._next_block()
            if block is None:
                break
            self._hand_out(block)
        if self._is_stopping:
            if not self._running:
                self.end(Outcome.STOPPED)
        elif self._total is not None and not self._running and not self._backlog.rows:
            tell(self._writer, Finish(self._total, self._source_size))
            self.end(Outcome.FINISHED)
        else:
            self._demand()

    def _has_room(self) -> bool:
        """Return whether another task may run: there is a worker, and what cheap tasks hold in memory is bounded."""
        is_much = self._pace.is_grouping and self._bytes_running >= BYTES_AHEAD and len(self._running) > 1
        return len(self._running) < self._pace.tasks and not is_much

    def _next_block(self) -> Block | None:
        start = self._backlog.start
        if isinstance(self._delivery, OrderedDelivery) and start - self._delivery.next_row >= self._pace.ordered_span:
            return None
        return self._backlog.take(self._pace.rows_per_task)

    def _hand_out(self, block: Block) -> None:
        self._tasks += 1
        if self._tasks == 1:
            self.mailbox.wake_after(PATIENCE_SECONDS, _Patience())
        self._running[self._tasks] = _Task(block, block.size)
        self._bytes_running += block.size
        if self._plan.dispatched is not None:
            self._plan.dispatched.handed_out(_span(block))
        self._executor.submit(self._tasks, block)
        if len(block.records) > self._plan.step:
            self._look_for_late_tasks()

    def _demand(self) -> None:
        if self._is_demanding or self._total is not None or self._reader is None:
            return
        ahead = self._pace.rows_ahead
        if self._backlog.rows > ahead // 2:
            return
        if self._backlog.bytes < BYTES_AHEAD or self._backlog.rows < self._plan.step:
            self._is_demanding = True
            tell(self._reader, Demand(ahead - self._backlog.rows))

    # Being steered.

    def _hold(self, held: Future[None]) -> None:
        self._holding.begin(held)
        for number, task in self._running.items():
            self._cut(number, task)
        self.mailbox.wake_after(HOLD_SECONDS, HoldOver(), key="hold")

    def _resize(self) -> None:
        self._executor.resize(self._plan.concurrency)
        spare = self._executor.spare_tasks if self._may_queue else 0
        self._pace.resize(self._plan.concurrency, spare=spare, may_queue=self._may_queue)

    # A slow row holds up no others: what was grouped with it and not begun is taken back.

    def _look_for_late_tasks(self) -> None:
        if not self._is_looking_for_late:
            self._is_looking_for_late = True
            self.mailbox.wake_after(LATE_SECONDS, _Late(), key="late")

    def _cut_late(self) -> None:
        """Cut the tasks that have been in one and the same call since the last look."""
        self._is_looking_for_late = False
        for number, task in self._running.items():
            if len(task.block.records) > self._plan.step:
                left = self._executor.left(number)
                if left and left == task.left:
                    self._pace.slow_down()
                    self._cut(number, task)
                else:
                    self._look_for_late_tasks()
                task.left = left if left < len(task.block.records) else -1  # one that waits for a worker is not late

    def _cut(self, number: int, task: _Task) -> None:
        kept = self._executor.cut(number)
        self._bytes_running -= task.held
        task.held = 0
        if kept is not None:
            task.block, rest = task.block.split_at(kept)
            self._put_back(rest)

    def _take(self, done: TaskDone) -> None:
        task = self._running.pop(done.task, None)
        if task is not None:
            self._bytes_running -= task.held
        self._moved = self.clock.monotonic()
        self._pace.learn(done.calls, done.seconds, done.cpu_seconds)
        if done.calls:  # else these are rows that failed, and were counted then
            self._rows_done += done.rows
        rest = done.rest
        if done.lost:  # the writer has failed, and says why itself
            self._wind_down()
        elif done.failure is not None and rest is not None and not self._is_stopping:
            rest = self._without_failed(rest, done.failure)
        if rest is not None and rest.records:
            self._put_back(rest, is_unknown=done.failure is not None and done.failure.is_unknown)

    def _put_back(self, rest: Block, *, is_unknown: bool = False) -> None:
        self._backlog.put_back(rest)
        if self._plan.dispatched is not None and not is_unknown:
            self._plan.dispatched.came_back(_span(rest))

    def _without_failed(self, rest: Block, failure: OperatorFailure) -> Block:
        """Do with the rows that failed, the first of `rest`, what the policy says; return the others."""
        policy = self._plan.policy
        if policy.on_error == "fail" or failure.is_fatal:
            self._give_up(failure)
            return rest
        self._rows_failed += failure.rows
        self._rows_done += failure.rows
        if policy.is_exceeded(self._rows_failed, self._rows_done):
            error = TooManyErrorsError(
                f"{self._rows_failed} rows failed, more than max_errors={policy.max_errors} allows; the last one: "
                f"{failure.record}"
            )
            error.__cause__ = failure.error
            self._give_up(replace(failure, record=FailureRecord.of(error), error=error))
            return rest
        is_letter = policy.on_error == "dead_letter"
        tell(self._supervisor, RowsFailed(self.node_id, failure, is_letter))
        failed, rest = rest.split_at(failure.rows)
        self._tasks += 1
        self._running[self._tasks] = _Task(failed)
        self._executor.deliver(
            self._tasks,
            Done.without_rows(
                _span(failed),
                skipped=0 if is_letter else failure.rows,
                dead=failure.rows if is_letter else 0,
                letters=failure.letters if is_letter else b"",
            ),
        )
        return rest

    def _give_up(self, failure: OperatorFailure) -> None:
        tell(self._supervisor, OperatorFailed(self.node_id, failure))
        self._wind_down()

    def _wind_down(self) -> None:
        if not self._is_stopping:
            self.mailbox.wake_after(self._plan.grace, _GraceOver(), key="grace")
        self._is_stopping = True
        self._ctx.cancel()
        for number, task in self._running.items():
            self._cut(number, task)

    def _give_up_calls(self) -> None:
        """End without the calls that are still in flight: their rows are not done."""
        self._log.warning(events.GRACE_OVER, grace_s=self._plan.grace, ids=[str(i) for i in self._ids_in_flight()])
        self._is_given_up = True
        self._running.clear()

    # Noticing that nothing moves.

    def _look_later(self) -> None:
        self.mailbox.wake_after(self._plan.stall_after / 4, _Look(), key="look")

    def _look(self) -> None:
        """Say once that nothing moves, and once that something does again."""
        if self._holding.is_on:
            self._moved = self.clock.monotonic()
        still = self.clock.monotonic() - self._moved
        if still < self._plan.stall_after:
            if self._is_stalled:
                self._is_stalled = False
                tell(self._supervisor, Moved(self.node_id))
        elif not self._is_stalled:
            if self._running:
                is_writer = self._delivery.waiting >= min(len(self._running), self._plan.concurrency)
                self._say_stalled(still, "writer" if is_writer else "operator")
            elif self._is_demanding:
                self._say_stalled(still, "upstream")
        self._look_later()

    def _say_stalled(self, seconds: float, waits_on: str) -> None:
        self._is_stalled = True
        in_flight = sum(len(block.records) for block in self._blocks_begun())
        tell(
            self._supervisor,
            Stalled(self._ctx.pipeline_id, self.node_id, seconds, waits_on, self._ids_in_flight(), in_flight),
        )

    def _blocks_begun(self) -> list[Block]:
        """Return what the workers have; other tasks wait for one of them."""
        return [task.block for task in islice(self._running.values(), self._plan.concurrency)]

    def _ids_in_flight(self) -> tuple[Id, ...]:
        """Return the ids of the first rows in flight: the only time that the node looks into rows."""
        ids: list[Id] = []
        for block in self._blocks_begun():
            for number, record in enumerate(block.records[: IDS_SHOWN - len(ids)]):
                row_id: Id = block.start + number
                with contextlib.suppress(ValueError):
                    row_id = named(block.decode(record), block.start + number, is_root=self._plan.is_root)[0]
                ids.append(row_id)
        return tuple(ids)


def _span(block: Block) -> Span:
    return Span(block.start, block.end, block.offset, block.offset_end)
