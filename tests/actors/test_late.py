"""Late tasks: a slow row among cheap ones, with which it was grouped, holds up no others (M10, M11, R2)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest

from llm_datagen.actors.in_flight import InFlight
from llm_datagen.actors.node import NodeActor
from llm_datagen.actors.watchdog import StallWatchdog
from llm_datagen.config import FailurePolicy
from llm_datagen.executors.base import Executor
from llm_datagen.executors.threads import ThreadExecutor
from llm_datagen.messages import Cancel, EndOfSource, Finish, Moved, StageEnded, StageOutcome, Stalled, TaskDone, Write
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators import FunctionOperator
from llm_datagen.streams import Block, Span
from llm_datagen.testing import ManualClock

from ..kit.support import PATIENCE_SECONDS, eventually
from .nodes import Bench

ROWS = 3000
SLOW = 1200
"""The row that is slow; it comes when the node has learned that the operator is cheap."""

BATCH = 4

SHAPES = ["item", "batch", "async item", "async batch"]


class Slow:
    """An operator that is cheap, but for one row (or the batch with it): that waits at a gate."""

    def __init__(self, shape: str) -> None:
        self.gate = threading.Event()
        self.is_waiting = threading.Event()
        self.begun: list[int] = []
        self.batches: list[list[int]] = []
        self.finished: list[int] = []
        self.now = 0
        self.most = 0
        self._lock = threading.Lock()
        functions = {
            "item": self.item,
            "batch": self.batch,
            "async item": self.item_later,
            "async batch": self.batch_later,
        }
        self.operator = FunctionOperator(functions[shape], batch=shape.endswith("batch"), name="slow")

    @contextlib.contextmanager
    def call(self, items: list[Any]) -> Iterator[bool]:
        """Take note of a call; say whether it is the slow one."""
        numbers = [item["n"] for item in items]
        with self._lock:
            self.begun += numbers
            self.batches.append(numbers)
            self.now += 1
            self.most = max(self.most, self.now)
        is_slow = SLOW in numbers
        if is_slow:
            self.is_waiting.set()
        try:
            yield is_slow
        finally:
            with self._lock:
                self.now -= 1
                self.finished += numbers

    def item(self, item: Any) -> Any:
        return self.batch([item])[0]

    def batch(self, items: list[Any]) -> list[Any]:
        with self.call(items) as is_slow:
            assert not is_slow or self.gate.wait(PATIENCE_SECONDS)
            return items

    async def item_later(self, item: Any) -> Any:
        return (await self.batch_later([item]))[0]

    async def batch_later(self, items: list[Any]) -> list[Any]:
        with self.call(items) as is_slow:
            while is_slow and not self.gate.is_set():
                await asyncio.sleep(0.001)
            return items


class Written:
    """What has come to the writer so far."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.rows: list[int] = []
        self.finish: Finish | None = None

    def look(self) -> list[int]:
        """Take out what has come; return all source rows so far, in the order in which they came."""
        for message in self._bench.writer.taken():
            if isinstance(message, Write):
                self.rows += range(message.result.span.start, message.result.span.end)
            else:
                self.finish = message
        return self.rows


def begin(shape: str, **settings: Any) -> tuple[Bench, Slow, Written]:
    """Start a node with all of its rows, and wait until the slow one is in the operator."""
    bench, slow = Bench(), Slow(shape)
    bench.start(slow.operator, batch_size=BATCH if shape.endswith("batch") else 1, **settings)
    bench.feed()
    bench.send(0, ROWS)
    bench.ref.tell(EndOfSource(ROWS, 10 * ROWS))
    assert slow.is_waiting.wait(PATIENCE_SECONDS)
    return bench, slow, Written(bench)


def check_end(bench: Bench, slow: Slow, written: Written, shape: str) -> None:
    """Let the slow row go on, and check that each row was called and delivered once, in batches on the grid."""
    assert bench.supervisor.of(StageEnded) == []
    slow.gate.set()
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert Counter(written.look()) == Counter(range(ROWS))
    assert written.finish == Finish(ROWS, 10 * ROWS)
    assert Counter(slow.begun) == Counter(range(ROWS))
    if shape.endswith("batch"):
        assert sorted(slow.batches) == [list(range(n, n + BATCH)) for n in range(0, ROWS, BATCH)]


shapes = pytest.mark.parametrize("shape", SHAPES)


@pytest.mark.sampled(4)
@shapes
@pytest.mark.parametrize("parallel_size", [2, 8])
def test_a_slow_row_holds_up_none_that_was_grouped_with_it(shape: str, parallel_size: int) -> None:
    """M10: while it waits, all rows behind it are done and delivered; only those before it in its task wait for it."""
    bench, slow, written = begin(shape, parallel_size=parallel_size)
    last = SLOW // BATCH * BATCH + BATCH if shape.endswith("batch") else SLOW + 1

    def is_only_the_slow_task_missing() -> bool:
        missing = sorted(set(range(ROWS)) - set(written.look()))
        return missing == list(range(missing[0], last))

    eventually(is_only_the_slow_task_missing, "the rows that are not in the slow one's task")
    assert slow.most <= parallel_size
    check_end(bench, slow, written, shape)


@shapes
def test_a_single_worker_makes_one_call_at_a_time_all_the_same(shape: str) -> None:
    """M10: what was taken back waits until the slow call has ended."""
    bench, slow, written = begin(shape, parallel_size=1)
    seen = -1
    while seen != (seen := len(written.look()) + len(slow.begun)):
        threading.Event().wait(0.1)
    assert max(slow.begun) < SLOW + BATCH
    check_end(bench, slow, written, shape)
    assert slow.most == 1
    assert written.rows == list(range(ROWS)), "a single worker keeps the order"


@pytest.mark.sampled(4)
@shapes
@pytest.mark.parametrize("parallel_size", [2, 8])
def test_rows_behind_a_slow_one_are_done_and_wait_for_their_turn_where_order_is_kept(
    shape: str, parallel_size: int
) -> None:
    """M10: through a window; then all of them leave in input order."""
    bench, slow, written = begin(shape, parallel_size=parallel_size, ordered=True)
    window = 4 * parallel_size * (BATCH if shape.endswith("batch") else 1)
    wanted = set(range(SLOW + BATCH, SLOW + window))
    eventually(lambda: wanted <= set(slow.finished), "the rows behind the slow one")
    assert all(row < SLOW + BATCH for row in written.look())
    check_end(bench, slow, written, shape)
    assert written.rows == list(range(ROWS))


@shapes
def test_a_row_that_fails_among_those_taken_back_is_dealt_with_alone(shape: str) -> None:
    """M24, C1: cut, failed and delivered, each row has one outcome."""
    bench, slow = Bench(), Slow(shape)
    bad = {5, SLOW - 1, SLOW + 1, SLOW + 700, ROWS - 1}
    call = slow.call

    @contextlib.contextmanager
    def failing(items: list[Any]) -> Iterator[bool]:
        with call(items) as is_slow:
            if any(item["n"] in bad for item in items):
                raise ValueError("on purpose")
            yield is_slow

    slow.call = failing  # type: ignore[method-assign]
    settings = {"batch_size": BATCH if shape.endswith("batch") else 1, "policy": FailurePolicy(on_error="skip")}
    bench.start(slow.operator, parallel_size=3, **settings)
    bench.feed()
    bench.send(0, ROWS)
    bench.ref.tell(EndOfSource(ROWS, 10 * ROWS))
    assert slow.is_waiting.wait(PATIENCE_SECONDS)
    slow.gate.set()
    assert bench.ended().outcome is StageOutcome.FINISHED
    *writes, _ = bench.writer.taken()
    assert Counter(row for write in writes for row in range(*write.result.span[:2])) == Counter(range(ROWS))
    assert sum(write.result.skipped for write in writes) == len(bad)
    assert sum(write.result.rows for write in writes) == ROWS - len(bad)


@shapes
def test_a_cancel_takes_back_what_was_not_begun(shape: str) -> None:
    """M7: at once, not when the slow call comes back; what its task has done is delivered when it does."""
    bench, slow, written = begin(shape, parallel_size=1)
    bench.ref.tell(Cancel())
    eventually(bench.ref.actor_inbox.empty)
    slow.gate.set()
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert sorted(written.look()) == sorted(set(slow.begun)) == sorted(slow.begun)
    assert len(slow.begun) < ROWS


def test_workers_wait_for_a_writer_that_is_full_though_all_rows_are_filtered() -> None:
    """M20: rows that leave no trace in the output would else run ahead of a slow disk without a bound."""
    bench = Bench(capacity=10)
    bench.start(lambda item: None, parallel_size=2)
    bench.feed()
    bench.send(0, ROWS)
    assert bench.writer.waiting.acquire(timeout=PATIENCE_SECONDS)
    bench.writer.die()
    assert bench.ended().outcome is StageOutcome.STOPPED


@pytest.mark.parametrize("is_async", [False, True])
def test_nothing_is_called_once_a_worker_has_seen_that_the_writer_is_dead(
    monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    """M24, R2: a task that waits for a worker would be called, and paid for, in vain; the node may hear of it late."""
    bench, begun, calls = Bench(), list[int](), list[int]()
    may_hear, go_on = threading.Event(), threading.Event()
    take = NodeActor._take

    def take_late(node: NodeActor, *done: TaskDone) -> None:
        if any(each.lost for each in done):
            assert may_hear.wait(PATIENCE_SECONDS)
        take(node, *done)

    monkeypatch.setattr(NodeActor, "_take", take_late)
    handed_out: list[Block] = []
    hand_out = InFlight.hand_out

    def note(tasks: InFlight, block: Block) -> None:
        handed_out.append(block)
        hand_out(tasks, block)

    monkeypatch.setattr(InFlight, "hand_out", note)

    def act(items: list[Any]) -> list[Any]:
        calls.append(items[0]["n"])
        return items

    async def wait_then_act(items: list[Any]) -> list[Any]:
        begun.append(items[0]["n"])
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        return act(items)

    def wait_and_act(items: list[Any]) -> list[Any]:
        begun.append(items[0]["n"])
        assert go_on.wait(PATIENCE_SECONDS)
        return act(items)

    bench.start(FunctionOperator(wait_then_act if is_async else wait_and_act, batch=True), parallel_size=16)
    bench.feed()
    bench.send(0, 40)
    spare = 16 if is_async else 2  # tasks that wait for a worker
    eventually(lambda: (len(begun), len(handed_out)) == (16, 16 + spare))
    bench.writer.die()
    go_on.set()
    eventually(lambda: len(calls) >= 16)
    threading.Event().wait(0.1)
    may_hear.set()
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert len(calls) == 16


def test_an_executor_that_cannot_say_how_far_it_is_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """M10: as worker processes are; nothing is lost, the rows behind the slow one wait."""

    def unknown(_: Executor, __: int) -> int:
        return 0

    monkeypatch.setattr(ThreadExecutor, "left", unknown)
    bench, slow, written = begin("item", parallel_size=2)
    check_end(bench, slow, written, "item")


def test_a_stall_is_told_once_and_its_end_once() -> None:
    """M28: by the clock alone; a second one is told again."""
    clock = ManualClock()
    watch = StallWatchdog(clock, 4.0, "p", "n")
    idle = InFlight(cast(Executor, None), step=1, workers=1, root=None)
    for _ in range(2):
        clock.advance(3.9)
        assert watch.check("operator", idle) is None
        clock.advance(0.2)
        assert watch.check("", idle) is None, "there is nothing to do"
        stalled = watch.check("operator", idle)
        assert isinstance(stalled, Stalled)
        assert stalled.waits_on == "operator"
        assert stalled.seconds == pytest.approx(4.1)
        assert watch.check("operator", idle) is None
        watch.moved()
        assert (watch.check("operator", idle), watch.check("operator", idle)) == (Moved("n"), None)


def test_a_task_that_comes_back_after_it_was_given_up_is_no_matter() -> None:
    """M7: nobody waits for it any more."""
    bench = Bench()
    bench.start(lambda item: item)
    bench.feed()
    bench.ref.tell(TaskDone(99, BlockResult(Span(0, 0, 0, 0))))
    bench.ref.tell(EndOfSource(0, 0))
    assert bench.ended().outcome is StageOutcome.FINISHED
