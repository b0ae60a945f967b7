"""Delivery: from a worker to the writer, and the report of it to the node.

The one place where a thread of ours may be blocked for long: by a full writer, or, in sync mode, by the disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pykka
from pykka._envelope import Envelope

from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.messages import TaskDone, TasksDone, Write, Writes
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Segment

_LIVENESS_SECONDS = 1.0


class Delivery:
    """Puts the results of tasks into a writer's mailbox, then tells the node.

    Args:
        writer: the writer's ref.
        node: the node's ref.
        sync: whether a put waits until the rows are committed.
        on_lost: called, by the worker, when the writer was dead: before the next call begins, whose results would be
            lost, too. The node gets the report later.
    """

    def __init__(
        self,
        writer: pykka.ActorRef[Any],
        node: Recipient,
        *,
        sync: bool,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_lost = on_lost
        self._writer = writer
        self._node = node
        self._sync = sync
        self.waiting = 0
        """Threads that are in a put now. Changed without a lock: good enough to say what a stalled node waits for."""

    @property
    def gathers(self) -> bool:
        """Whether results may be put together: not where a worker waits for their commit, or the writer is dead."""
        return not self._sync and self._writer.is_alive()

    def try_put(self, ended: Sequence[tuple[int, BlockResult]]) -> bool:
        """Deliver all of these without blocking, if that is possible now: in one message each to writer and node."""
        if self._sync:
            return False
        writes = tuple(Write(result) for _, result in ended if result.has_outcome)
        is_lost = False
        if writes:
            inbox = self._writer.actor_inbox
            assert isinstance(inbox, Mailbox)
            message = writes[0] if len(writes) == 1 else Writes(writes)
            if len(writes) > 1 and inbox.exceeds_bound(message.load):
                return False  # one by one: each waits until there is room
            try:
                if not inbox.offer(Envelope(message)):
                    return False
            except pykka.ActorDeadError:
                for write in writes:
                    write.result.close()
                self._on_lost()
                is_lost = True
        tasks = tuple(TaskDone(task, result, lost=is_lost and result.has_outcome) for task, result in ended)
        tell(self._node, tasks[0] if len(tasks) == 1 else TasksDone(tasks))
        return True

    def put(self, task: int, result: BlockResult) -> None:
        """Deliver; blocks while the writer is full."""
        self.waiting += 1
        waited = self._write(result)
        if waited is None:
            self._on_lost()
        self.waiting -= 1
        tell(self._node, TaskDone(task, result, lost=waited is None, held_back=waited or 0.0))

    def close(self) -> int:
        """Let go of what will not be delivered any more; return how many source rows. The workers have ended."""
        return 0

    def _write(self, result: BlockResult) -> float | None:
        """Return the seconds waited until the writer has taken (in sync mode: committed) the results; None: never."""
        if not result.has_outcome:
            return 0.0
        ack: Future[None] | None = Future() if self._sync else None
        write = Write(result, ack)
        started = time.perf_counter()
        if self._has_taken(write):
            if ack is None:
                return 0.0
        elif not tell(self._writer, write):  # which blocks while it is full
            result.close()
            return None
        while ack is not None:
            try:
                ack.result(timeout=_LIVENESS_SECONDS)
            except TimeoutError:
                if self._writer.is_alive() or ack.done():
                    continue
                return None
            except pykka.ActorDeadError:
                return None
            break
        return time.perf_counter() - started

    def _has_taken(self, write: Write) -> bool:
        """Return whether the writer lives, has room, and was given the results: without a wait."""
        inbox = self._writer.actor_inbox
        assert isinstance(inbox, Mailbox)
        try:
            return self._writer.is_alive() and inbox.offer(Envelope(write))
        except pykka.ActorDeadError:
            return False


class OrderedDelivery(Delivery):
    """Delivers in input order: what finishes early waits here, in memory, for the rows before it.

    How much can wait is bounded by the node, which hands out no row that is too far ahead of `next_row`.

    Args:
        writer: the writer's ref.
        node: the node's ref.
        sync: whether a put waits until the rows are committed.
        segments: the parts of the source that are not done, in order.
        on_lost: as in `Delivery`.
    """

    def __init__(
        self,
        writer: pykka.ActorRef[Any],
        node: Recipient,
        *,
        sync: bool,
        segments: Sequence[Segment],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(writer, node, sync=sync, on_lost=on_lost)
        self._lock = threading.Lock()
        self._early: dict[int, BlockResult] = {}
        self._segments = list(segments)
        self.next_row = self._segments[0].start if self._segments else 0
        """The ordinal of the first row that was not delivered."""

    @property
    def gathers(self) -> bool:
        """Never: they are put in order."""
        return False

    def try_put(self, ended: Sequence[tuple[int, BlockResult]]) -> bool:
        """Refuse: putting in order needs a lock, which the caller must not wait for."""
        return False

    def put(self, task: int, result: BlockResult) -> None:
        """Deliver `result`, and all that has waited for it; or let it wait."""
        lost = False
        self.waiting += 1
        held_back = self._enter()
        try:
            if result.is_end:  # nothing is early: all rows are done
                waited = self._write(result)
                lost, held_back = waited is None, held_back + (waited or 0.0)
            elif result.source_rows:
                self._early[result.span.start] = result
            while not lost and (due := self._early.pop(self.next_row, None)) is not None:
                waited = self._write(due)
                lost, held_back = waited is None, held_back + (waited or 0.0)
                self._advance(due.span.end)
        finally:
            self._lock.release()
        if lost:
            self._on_lost()
        self.waiting -= 1
        tell(self._node, TaskDone(task, result, lost=lost, held_back=held_back))

    def _enter(self) -> float:
        """Take the lock; return the seconds waited: another worker has it as long as it waits for the writer."""
        if self._lock.acquire(blocking=False):
            return 0.0
        started = time.perf_counter()
        self._lock.acquire()
        return time.perf_counter() - started

    def close(self) -> int:
        """Let go of what has waited for rows that will not come; return how many source rows."""
        with self._lock:
            rows = sum(result.source_rows for result in self._early.values())
            for result in self._early.values():
                result.close()
            self._early.clear()
        return rows

    def _advance(self, row: int) -> None:
        if len(self._segments) > 1 and row == self._segments[0].end:
            self._segments.pop(0)  # the end of a hole: go on behind the rows that are done already
            row = self._segments[0].start
        self.next_row = row
