"""The dispatcher: which rows of a node go to its workers now, in which pieces, and which are taken back.

A slow row holds up no others: what was grouped with it and not begun is taken back, and handed out again.
"""

from __future__ import annotations

from enum import Enum, auto

from llm_datagen.actors.backlog import Backlog
from llm_datagen.actors.chunking import BYTES_AHEAD, LATE_SECONDS, AdaptiveChunking
from llm_datagen.actors.delivery import Delivery, OrderedDelivery
from llm_datagen.actors.in_flight import InFlight
from llm_datagen.actors.lead_limit import LeadLimit
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.rate_limit import RateLimit
from llm_datagen.executors.base import Executor
from llm_datagen.executors.parent_batches import ParentBatches
from llm_datagen.messages import TaskDone
from llm_datagen.streams import Block

PATIENCE_SECONDS = 0.002
"""An operator whose first calls take longer is slow: all workers may begin."""


class DispatchTimer(Enum):
    """Timers of a dispatcher; the node hands them to `on_timer`."""

    PATIENCE = auto()
    """The first calls have not come back."""
    LATE = auto()
    """Time to check whether a task is late."""
    RATE = auto()
    """The rate allows more rows."""


class Dispatcher:
    """Hands rows to workers, as many at once as it may. Used by the node's own thread.

    Args:
        opened: the node.
        executor: runs the tasks.
        delivery: where results go; one that keeps the input order bounds how far ahead rows are handed out.
        mailbox: the node's, for timers.
        parent_batches: where batches end, when siblings share a call.
    """

    def __init__(
        self,
        opened: OpenedNode,
        executor: Executor,
        delivery: Delivery,
        mailbox: Mailbox,
        parent_batches: ParentBatches | None,
    ) -> None:
        self._opened = opened
        self._executor = executor
        self._delivery = delivery
        self._mailbox = mailbox
        self.backlog = Backlog(opened.step if opened.call.batch else 0, parent_batches)
        self.in_flight = InFlight(executor, step=opened.step, workers=opened.concurrency, root=opened.root)
        self._chunking = AdaptiveChunking(
            opened.concurrency,
            opened.step,
            opened.step if opened.has_one_call_per_task else opened.writer.queue_size,
            is_gil_bound=executor.is_gil_bound,
            task_seconds=executor.task_seconds,
        )
        self._rate_limit = RateLimit(mailbox.clock, opened.rate)
        position = opened.position
        self.lead_limit = LeadLimit(mailbox.clock, opened.max_lead, done=position.coverage.rows, rows_out=position.rows)
        self._is_checking_late = False
        self.needs_rows = False
        """Whether a worker is free, and no limit keeps rows from it: they are not there."""
        self._is_rate_limited = False
        self._resize_chunking()

    @property
    def _may_queue(self) -> bool:
        """Whether tasks may wait for a worker: they could be abandoned, exceed a limit, or overtake a single worker."""
        opened = self._opened
        return opened.concurrency > 1 and opened.dispatched is None and opened.policy.max_errors is None

    def on_timer(self, timer: DispatchTimer) -> None:
        """Do what a timer was set for."""
        match timer:
            case DispatchTimer.PATIENCE:
                self._chunking.open_up()
            case DispatchTimer.LATE:
                self._cut_late()
            case DispatchTimer.RATE:
                pass  # rows are handed out after every message

    def hand_out(self) -> None:
        """Hand out what may be handed out now."""
        self._rate_limit.holds_back(0)
        self.lead_limit.holds_back(0)
        self.needs_rows = self._is_rate_limited = False
        while self._has_room():
            ahead = self.lead_limit.rows()
            if not ahead:
                self.lead_limit.holds_back(self.backlog.rows)
                return
            rows = min(self._rate_limit.rows(), ahead)
            if not rows:
                self._is_rate_limited = True
                self._rate_limit.holds_back(self.backlog.rows)
                self._mailbox.wake_after(self._rate_limit.wait(), DispatchTimer.RATE, key="rate")
                return
            block = self._next_block(rows)
            if block is None:
                self.needs_rows = True
                return
            self._hand_out(block)

    def _has_room(self) -> bool:
        """Return whether there is a worker for another task, or a place to wait for one, and memory for it."""
        tasks, size = len(self.in_flight), self.in_flight.bytes
        waiting = max(0, tasks - self._opened.concurrency)
        if self._chunking.is_grouping:
            is_much = size >= BYTES_AHEAD and tasks > 1
        else:  # those that workers have may be as large as they are; of those that wait, this is about the size
            is_much = waiting * size >= BYTES_AHEAD * tasks > 0
        return tasks < self._chunking.tasks and not is_much

    def _next_block(self, rows: int) -> Block | None:
        if isinstance(self._delivery, OrderedDelivery):
            ahead = self.backlog.start - self._delivery.next_row
            if ahead >= self._chunking.ordered_span() and ahead >= self._chunking.ordered_span(self.in_flight.largest):
                return None
        return self.backlog.take(min(rows, self._chunking.rows_per_task))

    def _hand_out(self, block: Block) -> None:
        if self._opened.dispatched is not None:
            self._opened.dispatched.handed_out(block.span)
        self.in_flight.hand_out(block)
        self._rate_limit.spend(len(block.records))
        self.lead_limit.spend(len(block.records))
        if self.in_flight.made == 1:
            self._mailbox.wake_after(PATIENCE_SECONDS, DispatchTimer.PATIENCE, key="patience")
        if len(block.records) > self._opened.step:
            self._check_late_later()

    @property
    def expects_rows(self) -> bool:
        """Whether another row may be handed out before a task has ended: when one comes, or when the rate allows it."""
        return (self.needs_rows and not self.backlog.rows) or self._is_rate_limited

    @property
    def rate_limited_s(self) -> float:
        """Seconds in which a worker was free for rows that were there, and the rate did not let them begin."""
        return self._rate_limit.waited

    def rows_to_demand(self) -> int:
        """Return how many rows the reader should be asked for now; 0 when enough wait here."""
        ahead, backlog = self._chunking.rows_ahead, self.backlog
        is_enough = backlog.bytes >= BYTES_AHEAD and backlog.rows > self._opened.step
        return 0 if is_enough or backlog.rows > ahead // 2 else ahead - backlog.rows

    def waits_on(self) -> str:
        """Return whom tasks that do not come back wait for, "writer" or "operator"; "" when there are none."""
        if not self.in_flight:
            return ""
        is_writer = self._delivery.waiting >= min(len(self.in_flight), self._opened.concurrency)
        return "writer" if is_writer else "operator"

    def ended(self, task: TaskDone) -> None:
        """Count a task that has ended, and learn from it how fast the operator is."""
        self.in_flight.take(task.task)
        # Rows that cannot be parsed took no call, but time.
        result = task.result
        self._chunking.learn(max(result.calls, len(result.survived)), result.seconds, result.cpu_seconds)

    def put_back(self, rest: Block, *, is_unknown: bool = False) -> None:
        """Put back rows that were handed out and not processed.

        Args:
            rest: the rows.
            is_unknown: whether the operator may have seen them.
        """
        self.backlog.put_back(rest)
        self._rate_limit.give_back(len(rest.records))
        self.lead_limit.give_back(len(rest.records))
        if self._opened.dispatched is not None and not is_unknown:
            self._opened.dispatched.came_back(rest.span)

    def take_back(self) -> None:
        """Take from all tasks the rows that were not begun: none begins for now."""
        self._rate_limit.holds_back(0)
        self.lead_limit.holds_back(0)
        for rest in self.in_flight.cut_all():
            self.put_back(rest)

    def _check_late_later(self) -> None:
        if not self._is_checking_late:
            self._is_checking_late = True
            self._mailbox.wake_after(LATE_SECONDS, DispatchTimer.LATE, key="late")

    def _cut_late(self) -> None:
        """Cut the tasks that have been in one and the same call since the last check."""
        self._is_checking_late = False
        late = self.in_flight.late()
        if len(late) < self.in_flight.grouped:
            self._check_late_later()
        for number in late:
            self._chunking.slow_down()
            rest = self.in_flight.cut(number)
            if rest is not None:
                self.put_back(rest)

    def resize(self) -> None:
        """Take the node's concurrency and rate as they are now."""
        workers = self._opened.concurrency
        self._rate_limit.change(self._opened.rate)
        self._executor.resize(workers)
        self.in_flight.workers = workers
        self._resize_chunking()

    def _resize_chunking(self) -> None:
        spare = self._executor.spare_tasks if self._may_queue else 0
        self._chunking.resize(self._opened.concurrency, spare=spare)
