"""Delivery: results reach the writer before the node hears of the task's end, and in order where that was asked for."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future
from typing import Any

import pykka
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.actors import delivery as module
from llm_datagen.actors.delivery import Delivery, OrderedDelivery
from llm_datagen.errors import FailureRecord
from llm_datagen.messages import OperatorFailure, TaskDone
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Block, Segment, Span

from ..kit.actors import Desk, FakeWriter, aside, block_of, result_of


def done(start: int, end: int, **changes: Any) -> BlockResult:
    """Return what became of the rows `start` to `end`: a row each."""
    fields: dict[str, Any] = {
        "span": Span(start, end, 10 * start, 10 * end),
        "rows": end - start,
        "data": b"".join(b"%d\n" % row for row in range(start, end)),
        "filtered": 0,
        "ids": (start, end - 1),
        "marks": None,
        "rest": None,
        "failure": None,
        "calls": end - start,
        "seconds": 0.5,
        **changes,
    }
    return BlockResult(**fields)


def a_rest(start: int, end: int) -> Block:
    """Return rows that were not processed."""
    return block_of(range(start, end), start, 10 * start)


def deliver_to(writer: FakeWriter, node: Desk, *, sync: bool = False) -> Delivery:
    """Return a delivery."""
    return Delivery(writer, node, sync=sync)  # type: ignore[arg-type]


def ordered_to(writer: FakeWriter, node: Desk, segments: list[Segment], *, sync: bool = False) -> OrderedDelivery:
    """Return a delivery that keeps the order."""
    return OrderedDelivery(writer, node, sync=sync, segments=segments)  # type: ignore[arg-type]


@pytest.fixture
def writer() -> FakeWriter:
    return FakeWriter()


@pytest.fixture
def node() -> Desk:
    return Desk()


def test_the_writer_gets_the_results_and_then_the_node_the_word(writer: FakeWriter) -> None:
    """The protocol: a worker MUST send the Write before the node hears of the task's end."""
    order: list[str] = []

    class Node(Desk):
        def tell(self, message: Any) -> None:
            order.append("before" if writer.actor_inbox.empty() else "after")
            super().tell(message)

    node = Node()
    rest = a_rest(3, 5)
    failure = OperatorFailure(FailureRecord.of(ValueError()), ValueError(), [])
    result = done(0, 3, rest=rest, failure=failure, filtered=1, marks={"kept": [0, 2]})
    deliver_to(writer, node).put(7, result)

    (write,) = writer.writes()
    assert (write.result, write.ack) == (result, None)
    assert node.messages == [TaskDone(7, result, lost=False)]
    assert order == ["after"]


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("is_ordered", [False, True])
def test_a_task_that_has_done_nothing_writes_nothing(
    writer: FakeWriter, node: Desk, sync: bool, is_ordered: bool
) -> None:
    """M7: such as one that was cancelled before it began; the node gets its rows back."""
    segments = [Segment(0, 0)]
    out = ordered_to(writer, node, segments, sync=sync) if is_ordered else deliver_to(writer, node, sync=sync)
    out.put(1, done(4, 4, rest=a_rest(4, 6)))
    assert writer.writes() == []
    (told,) = node.of(TaskDone)
    assert told.result.rest is not None
    assert not told.lost


def test_rows_that_were_all_filtered_are_written_all_the_same(writer: FakeWriter, node: Desk) -> None:
    """S1: a source row is done when a commit covers it, whether it gave a row or not."""
    deliver_to(writer, node).put(1, done(0, 3, rows=0, data=b"", filtered=3, ids=(None, None)))
    assert [write.result.filtered for write in writer.writes()] == [3]


def test_a_full_writer_blocks_the_worker_and_nobody_hears_of_the_task(node: Desk) -> None:
    """M20: backpressure: no word to the node, so no demand, so no reading."""
    writer = FakeWriter(capacity=2)
    out = deliver_to(writer, node)
    out.put(1, done(0, 2))
    blocked = aside(out.put, 2, done(2, 3))
    assert writer.waiting.acquire(timeout=30)
    assert [told.task for told in node.of(TaskDone)] == [1]
    writer.actor_inbox.release(2)
    result_of(blocked)
    assert [told.task for told in node.of(TaskDone)] == [1, 2]


def test_results_that_are_more_together_than_the_writer_may_have_go_one_by_one(node: Desk) -> None:
    """M11: one result that is larger is let in alone; several in one message are not."""
    writer = FakeWriter(capacity=2)
    out = deliver_to(writer, node)
    assert not out.try_put([(number, done(number, number + 1)) for number in range(3)])
    assert (writer.taken(), node.messages) == ([], [])
    assert out.try_put([(number, done(number, number + 1)) for number in range(2)])
    assert [write.result.span.start for write in writer.writes()] == [0, 1]
    writer.actor_inbox.release(2, len(b"0\n1\n"))
    assert out.try_put([(9, done(9, 12))])


def test_trying_delivers_when_there_is_room_and_does_nothing_when_there_is_none(node: Desk) -> None:
    """H5: an event loop must not be blocked."""
    writer = FakeWriter(capacity=2)
    out = deliver_to(writer, node)
    assert out.try_put([(1, done(0, 2))])
    assert not out.try_put([(2, done(2, 3))])
    assert out.try_put([(3, done(5, 5))])
    assert [told.task for told in node.of(TaskDone)] == [1, 3]
    assert len(writer.writes()) == 1


def test_trying_is_refused_where_it_would_wait(writer: FakeWriter, node: Desk) -> None:
    """H5: for the disk (sync mode), or for other workers (order)."""
    assert not deliver_to(writer, node, sync=True).try_put([(1, done(0, 1))])
    assert not ordered_to(writer, node, [Segment(0, 0)]).try_put([(1, done(0, 1))])
    assert node.messages == []
    assert writer.writes() == []


@pytest.mark.parametrize("sync", [False, True])
def test_results_for_a_dead_writer_are_lost_and_the_node_is_told_so(writer: FakeWriter, node: Desk, sync: bool) -> None:
    """H4: nothing counts as delivered that was not."""
    writer.die()
    out = deliver_to(writer, node, sync=sync)
    out.put(1, done(0, 1))
    assert out.try_put([(2, done(1, 2))]) is not sync
    ordered_to(writer, node, [Segment(0, 0)], sync=sync).put(3, done(0, 1))
    assert all(told.lost for told in node.of(TaskDone))


def test_a_worker_that_is_blocked_when_the_writer_dies_goes_on(node: Desk) -> None:
    """H3: and its results are lost, not delivered."""
    writer = FakeWriter(capacity=1)
    out = deliver_to(writer, node)
    out.put(1, done(0, 1))
    blocked = aside(out.put, 2, done(1, 2))
    assert writer.waiting.acquire(timeout=30)
    writer.die()
    result_of(blocked)
    assert [told.lost for told in node.of(TaskDone)] == [False, True]


def test_a_node_that_is_dead_is_no_failure(writer: FakeWriter) -> None:
    """H3: the rows are delivered; nobody wants to hear of it."""

    class Dead(Desk):
        def tell(self, message: Any) -> None:
            raise pykka.ActorDeadError("dead")

    deliver_to(writer, Dead()).put(1, done(0, 1))
    assert len(writer.writes()) == 1


# --- sync mode -----------------------------------------------------------------------------------------------------


def taken_ack(writer: FakeWriter) -> Future[None]:
    """Wait for a write and return its acknowledgement."""
    write = result_of(aside(writer.actor_inbox.get)).message
    assert write.ack is not None
    return write.ack  # type: ignore[no-any-return]


def test_in_sync_mode_a_worker_waits_until_its_rows_are_committed(writer: FakeWriter, node: Desk) -> None:
    """M20, H12: the acknowledgement is its own future, resolved at the commit."""
    working = aside(deliver_to(writer, node, sync=True).put, 1, done(0, 1))
    ack = taken_ack(writer)
    assert node.messages == []
    ack.set_result(None)
    result_of(working)
    assert [told.lost for told in node.of(TaskDone)] == [False]


def test_in_sync_mode_a_writer_that_dies_fails_its_workers(writer: FakeWriter, node: Desk) -> None:
    """H4, H12: nobody waits for a commit that will not come."""
    working = aside(deliver_to(writer, node, sync=True).put, 1, done(0, 1))
    taken_ack(writer).set_exception(pykka.ActorDeadError("the writer ended"))
    result_of(working)
    assert [told.lost for told in node.of(TaskDone)] == [True]


def test_in_sync_mode_a_writer_that_vanished_is_noticed(
    writer: FakeWriter, node: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H12: an ask without a limit waits for ever; this one looks whether anybody is there."""
    monkeypatch.setattr(module, "_LIVENESS_SECONDS", 0.001)
    working = aside(deliver_to(writer, node, sync=True).put, 1, done(0, 1))
    taken_ack(writer)
    assert not working.done()
    writer.is_dead = True
    result_of(working)
    assert [told.lost for told in node.of(TaskDone)] == [True]


# --- in order ------------------------------------------------------------------------------------------------------


def written_rows(writer: FakeWriter) -> list[int]:
    """Return the source rows in the order in which they were written."""
    return [row for write in writer.writes() for row in range(write.result.span.start, write.result.span.end)]


@st.composite
def work(draw: st.DrawFn) -> tuple[list[Segment], list[tuple[int, int]], int]:
    """Return what is to be done: segments, the tasks that it was cut into, and a seed for what happens."""
    at, segments, tasks = 0, [], []
    count = draw(st.integers(1, 3))
    for number in range(count):
        start = at + draw(st.integers(1, 4)) * (number > 0)
        at = start
        for _ in range(draw(st.integers(1, 5))):
            end = at + draw(st.integers(1, 4))
            tasks.append((at, end))
            at = end
        is_last = number == count - 1
        segments.append(Segment(start, 10 * start, None if is_last else at, None if is_last else 10 * at))
    return segments, tasks, draw(st.integers(0, 2**32))


@given(work())
@settings(max_examples=75, deadline=None)
def test_rows_are_written_in_input_order_however_their_tasks_end(
    given_work: tuple[list[Segment], list[tuple[int, int]], int],
) -> None:
    """M10: also with holes from an earlier run, and when a task gives a part of its rows back."""
    segments, tasks, seed = given_work
    rng = random.Random(seed)
    writer, node = FakeWriter(), Desk()
    out = ordered_to(writer, node, segments)
    expected = [row for start, end in tasks for row in range(start, end)]
    delivered: list[int] = []
    open_tasks = list(tasks)
    while open_tasks:
        start, end = open_tasks.pop(rng.randrange(len(open_tasks)))
        middle = rng.randint(start, end)
        out.put(start, done(start, middle, rest=a_rest(middle, end) if middle < end else None))
        if middle < end:
            open_tasks.append((middle, end))
        delivered += written_rows(writer)
        assert delivered == expected[: len(delivered)]
        first_open = min((start for start, _ in open_tasks), default=None)
        assert first_open is None or out.next_row == first_open
    assert delivered == expected
    assert not any(told.lost for told in node.of(TaskDone))


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_rows_are_written_in_input_order_by_many_workers(seed: int, sync: bool) -> None:
    """M10: over a tiny queue, each worker blocked now and then."""
    tasks = [(start, start + 2) for start in range(0, 80, 2)]
    writer, node = FakeWriter(capacity=3), Desk()
    out = ordered_to(writer, node, [Segment(0, 0)], sync=sync)
    queue = list(tasks)
    lock = threading.Lock()
    rng = random.Random(seed)
    written: list[int] = []

    def work_on() -> None:
        while True:
            with lock:  # at most four tasks ahead, as a node sees to
                if not queue:
                    return
                start, end = queue.pop(rng.randrange(min(4, len(queue))))
            out.put(start, done(start, end))

    def write() -> None:
        while len(written) < 80:
            message = writer.actor_inbox.get().message
            written.extend(range(message.result.span.start, message.result.span.end))
            if message.ack is not None:
                message.ack.set_result(None)
            writer.actor_inbox.release(message.result.rows)

    everyone = [aside(write), *[aside(work_on) for _ in range(4)]]
    for one in everyone:
        result_of(one)
    assert written == list(range(80))
    assert out.next_row == 80


def test_what_waits_for_rows_before_it_is_lost_with_the_writer(writer: FakeWriter, node: Desk) -> None:
    """H4: whoever delivers it is told."""
    out = ordered_to(writer, node, [Segment(0, 0)])
    out.put(2, done(1, 2))
    writer.die()
    out.put(1, done(0, 1))
    assert [(told.task, told.lost) for told in node.of(TaskDone)] == [(2, False), (1, True)]
