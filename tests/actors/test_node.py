"""The node: it demands in time, hands out what it may, and says that it is done when it is (M7, M10, M24, R2)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from llm_datagen.actors import chunking
from llm_datagen.actors.chunking import FIRST_WORKERS
from llm_datagen.actors.dispatcher import PATIENCE_SECONDS as SLOW_SECONDS
from llm_datagen.config import FailurePolicy
from llm_datagen.errors import TooManyErrorsError
from llm_datagen.executors import processing
from llm_datagen.executors.base import TASK_SECONDS
from llm_datagen.messages import (
    Cancel,
    Demand,
    EndOfSource,
    Finish,
    Moved,
    OperatorFailed,
    StageEnded,
    StageOutcome,
    Stalled,
    Write,
)
from llm_datagen.operators import FunctionOperator
from llm_datagen.runs.logs import events

from ..kit.actors import SteppingClock
from ..kit.support import PATIENCE_SECONDS, eventually
from .nodes import Bench, Gates


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_rows_go_through_and_the_writer_is_told_when_all_were_delivered(bench: Bench) -> None:
    """The protocol: Finish when, and only when, the source has ended and each row was delivered; behind the rows."""
    gates = Gates()
    bench.start(gates, parallel_size=3)
    bench.feed()
    bench.send(0, 3)
    bench.ref.tell(EndOfSource(3, 30))
    eventually(lambda: len(gates.begun) == 3)
    gates.let_through(2, 1)
    eventually(lambda: len(bench.writer.actor_inbox._data) == 2)
    assert bench.supervisor.of(StageEnded) == []
    gates.let_through(0)
    assert bench.ended().outcome is StageOutcome.FINISHED
    *writes, finish = bench.writer.taken()
    assert all(isinstance(write, Write) for write in writes)
    assert sorted(write.result.span.start for write in writes) == [0, 1, 2]
    assert finish == Finish(3, 30)


def test_an_empty_source_is_finished_at_once(bench: Bench) -> None:
    """The protocol: of no rows; the operator is not called."""
    bench.start(lambda item: 1 / 0)
    bench.feed()
    bench.ref.tell(EndOfSource(0, 0))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert bench.writer.taken() == [Finish(0, 0)]


def test_there_is_one_demand_at_most_and_none_after_the_end(clock: SteppingClock, bench: Bench) -> None:
    """The protocol: a node MUST have at most one Demand open."""
    gates = Gates()
    bench.start(gates, parallel_size=2)
    clock.settle(bench.ref)
    assert bench.reader.messages == []
    bench.feed()
    for _ in range(3):
        clock.step(bench.ref, 1)
    assert len(bench.reader.messages) == 1
    bench.send(0, 1)
    assert len(bench.reader.wait_for(Demand, 2)) == 2
    bench.ref.tell(EndOfSource(1, 10))
    clock.settle(bench.ref)
    gates.let_through(0)
    bench.ended()
    assert len(bench.reader.messages) == 2


def test_a_node_fetches_ahead_but_not_without_a_bound(clock: SteppingClock, bench: Bench) -> None:
    """M10, M20: while its workers are busy it stops to demand; so a stuck writer stops the reader."""
    gates = Gates()
    bench.start(gates, parallel_size=2)
    demand, at = bench.feed(), 0
    while True:
        bench.send(at, at + demand.rows)
        at += demand.rows
        clock.settle(bench.ref)
        demands = bench.reader.of(Demand)
        if demands[-1] is demand:
            break
        demand = demands[-1]
    assert at <= 10
    eventually(lambda: len(gates.begun) == 2)
    gates.let_through(*range(at))
    bench.ref.tell(Cancel())
    bench.ended()


def by_item(gates: Gates) -> FunctionOperator:
    return FunctionOperator(gates)


def by_batch(gates: Gates) -> FunctionOperator:
    return FunctionOperator(lambda items: [gates(item) for item in items], batch=True)


@pytest.mark.parametrize("make", [by_item, by_batch])
def test_at_most_parallel_size_batches_are_in_the_operator(
    clock: SteppingClock, bench: Bench, make: Callable[[Gates], FunctionOperator]
) -> None:
    """M10: at first only a few, until it is clear that the operator is slow; then as many as allowed."""
    gates = Gates()
    bench.start(make(gates), parallel_size=FIRST_WORKERS + 2)
    bench.feed()
    bench.send(0, 30)
    eventually(lambda: len(gates.begun) == FIRST_WORKERS)
    clock.settle(bench.ref)
    assert len(gates.begun) == FIRST_WORKERS
    clock.step(bench.ref, SLOW_SECONDS)
    eventually(lambda: len(gates.begun) == FIRST_WORKERS + 2)
    time.sleep(TASK_SECONDS)  # else the call may have been quick, by the real clock, and the operator cheap
    gates.let_through(0)
    eventually(lambda: len(gates.begun) == FIRST_WORKERS + 3)
    clock.settle(bench.ref)
    assert len(gates.begun) == FIRST_WORKERS + 3
    gates.let_through(*range(30))
    bench.ref.tell(Cancel())
    bench.ended()


def test_cancel_begins_nothing_new_and_delivers_what_was_begun(clock: SteppingClock, bench: Bench) -> None:
    """M7: not even what waits for a worker; the writer is not told to finish; the supervisor drains it."""
    gates = Gates()
    bench.start(gates, parallel_size=2)
    bench.feed()
    bench.send(0, 10)
    eventually(lambda: len(gates.begun) == 2)
    bench.ref.tell(Cancel())
    bench.ref.tell(Cancel())
    clock.settle(bench.ref)
    gates.let_through(*range(10))
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert sorted(bench.written()) == [0, 1]
    assert sorted(gates.begun) == [0, 1]


def test_cancel_may_come_before_anything_else(bench: Bench) -> None:
    """M7: before there is a reader."""
    bench.start(lambda item: item)
    bench.ref.tell(Cancel())
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert bench.writer.taken() == []


def test_a_failing_operator_is_reported_and_what_others_do_is_delivered(bench: Bench) -> None:
    """M24, R2: rows that were paid for are kept; nothing new is begun; no Finish."""
    gates = Gates()

    def act(item: Any) -> Any:
        gates(item)
        if item["n"] == 0:
            raise ValueError("on purpose")
        return item

    bench.start(act, parallel_size=2)
    bench.feed()
    bench.send(0, 10)
    eventually(lambda: len(gates.begun) == 2)
    gates.let_through(0)
    (failed,) = bench.supervisor.wait_for(OperatorFailed)
    assert isinstance(failed.failure.error, ValueError)
    assert failed.failure.items == [{"n": 0, "_i": 0}]
    gates.let_through(*range(10))
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert bench.written() == [1]
    assert bench.supervisor.messages[-1].role == "node"
    assert len(bench.supervisor.of(OperatorFailed)) == 1


def test_a_node_whose_writer_is_dead_stops(bench: Bench) -> None:
    """H4, F1: it is no failure of its own; the writer says what has happened."""
    bench.start(lambda item: item)
    bench.feed()
    bench.writer.die()
    bench.send(0, 10)
    ended = bench.ended()
    assert (ended.outcome, ended.failure) == (StageOutcome.STOPPED, None)


def test_rows_that_a_worker_gives_back_are_done_next(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2, M10: each of them once, by whoever is free."""
    monkeypatch.setattr(processing, "SLICE_SECONDS", 0.0)  # every task ends after one call
    calls: list[int] = []

    def act(item: Any) -> Any:
        calls.append(item["n"])
        return item

    bench.start(act, parallel_size=3, batch_size=4)
    bench.feed()
    bench.send(0, 50)
    bench.ref.tell(EndOfSource(50, 500))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert sorted(calls) == list(range(50))
    *writes, _ = bench.writer.taken()
    assert sorted(row for write in writes for row in range(*write.result.span[:2])) == list(range(50))


def test_an_ordered_node_does_not_run_away_from_a_slow_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M10: what waits for its turn is in memory, so it is bounded; and it leaves in input order."""
    monkeypatch.setattr(chunking, "MAX_ROWS", 8)
    gates = Gates()
    gates.let_through(*range(1, 200))
    bench.start(gates, parallel_size=2, ordered=True)
    bench.feed()
    bench.send(0, 200)
    bench.ref.tell(EndOfSource(200, 2000))
    seen = 0
    while seen != (seen := len(gates.begun)) or seen < 5:
        threading.Event().wait(0.02)
    assert seen < 100
    assert bench.written() == []
    gates.let_through(0)
    assert bench.ended().outcome is StageOutcome.FINISHED
    *writes, finish = bench.writer.taken()
    assert [row for write in writes for row in range(*write.result.span[:2])] == list(range(200))
    assert finish == Finish(200, 2000)


def test_a_stop_from_outside_waits_for_the_workers_and_delivers_nothing_more_than_they_do(bench: Bench) -> None:
    """H2, F2: abort: no thread of ours goes on in the background."""
    gates = Gates()
    bench.start(gates, parallel_size=2)
    bench.feed()
    bench.send(0, 10)
    eventually(lambda: len(gates.begun) == 2)
    bench.ref.stop(block=False)
    eventually(lambda: not bench.ref.is_alive())
    assert bench.supervisor.of(StageEnded) == []
    gates.let_through(*range(10))
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert sorted(bench.written()) == [0, 1]


def test_an_operator_can_see_that_it_should_give_up(bench: Bench) -> None:
    """M13: `ctx.is_cancelled()`, for calls that take long."""
    seen = threading.Event()

    def patient(item: Any, ctx: Any) -> Any:
        seen.set()
        eventually(ctx.is_cancelled)
        return item

    bench.start(patient)
    bench.feed()
    bench.send(0, 1)
    assert seen.wait(PATIENCE_SECONDS)
    bench.ref.tell(Cancel())
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert bench.written() == [0]


# --- calls that do not come back -----------------------------------------------------------------------------------


def test_calls_that_do_not_come_back_are_given_up_after_a_grace(clock: SteppingClock, bench: Bench) -> None:
    """M7, F2: the run ends without them; their rows are not done; when they come back late it does no harm."""
    gates = Gates()
    bench.start(gates, parallel_size=2, grace=60.0, stall_after=1e6)
    bench.feed()
    bench.send(0, 10)
    eventually(lambda: len(gates.begun) == 2)
    bench.ref.tell(Cancel())
    clock.settle(bench.ref)
    clock.step(bench.ref, 59.9)
    assert bench.supervisor.of(StageEnded) == []
    gates.let_through(1)
    eventually(lambda: len(bench.writer.actor_inbox._data) == 1)
    clock.settle(bench.ref)
    clock.advance(0.1)
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert [line["ids"] for line in bench.log.of(events.GRACE_OVER)] == [["0"]]
    bench.writer.die()
    gates.let_through(0)
    eventually(lambda: not any(thread.name.startswith("datagen-") for thread in threading.enumerate()))


def test_a_second_cancel_does_not_begin_the_grace_anew(clock: SteppingClock, bench: Bench) -> None:
    """M7: whoever presses twice does not wait longer."""
    gates = Gates()
    bench.start(gates, grace=10.0, stall_after=1e6)
    bench.feed()
    bench.send(0, 1)
    eventually(lambda: len(gates.begun) == 1)
    bench.ref.tell(Cancel())
    clock.settle(bench.ref)
    clock.step(bench.ref, 9)
    bench.ref.tell(Cancel())
    clock.settle(bench.ref)
    clock.advance(1)
    assert bench.ended().outcome is StageOutcome.STOPPED
    gates.let_through(0)
    eventually(lambda: not any(thread.name.startswith("datagen-") for thread in threading.enumerate()))


def test_a_node_in_which_nothing_moves_says_so_once(clock: SteppingClock, bench: Bench) -> None:
    """M28: what it waits for: the operator, the writer, or rows; and when it moves again."""
    gates = Gates()
    bench.start(gates, stall_after=4.0)
    bench.feed()
    clock.settle(bench.ref)
    for _ in range(8):
        clock.step(bench.ref, 1)
    bench.send(0, 1)
    eventually(lambda: len(gates.begun) == 1)
    clock.settle(bench.ref)
    for _ in range(8):
        clock.step(bench.ref, 1)
    said = [(one.waits_on, one.ids) for one in bench.supervisor.of(Stalled)]
    assert said == [("upstream", ()), ("operator", (0,))]
    assert len(bench.supervisor.of(Moved)) == 1
    gates.let_through(0)
    bench.ref.tell(Cancel())
    bench.ended()


def test_rows_that_are_skipped_are_delivered_before_the_node_is_done(bench: Bench) -> None:
    """M24, S2: they count as covered, and the writer hears of them before Finish."""

    def act(item: Any) -> Any:
        if item["n"] % 2:
            raise ValueError("on purpose")
        return item

    bench.start(act, parallel_size=3, policy=FailurePolicy(on_error="skip"))
    bench.feed()
    bench.send(0, 20)
    bench.ref.tell(EndOfSource(20, 2000))
    assert bench.ended().outcome is StageOutcome.FINISHED
    *writes, finish = bench.writer.taken()
    assert isinstance(finish, Finish)
    assert sorted(row for write in writes for row in range(*write.result.span[:2])) == list(range(20))
    assert sum(write.result.skipped for write in writes) == 10
    assert sum(write.result.rows for write in writes) == 10


def test_too_many_rows_that_fail_are_a_failure_with_the_last_one_as_its_cause(bench: Bench) -> None:
    """M24, F1: what is skipped before that stays skipped."""
    bench.start(lambda item: 1 / 0, policy=FailurePolicy(on_error="skip", max_errors=3))
    bench.feed()
    bench.send(0, 20)
    (failed,) = bench.supervisor.wait_for(OperatorFailed)
    assert isinstance(failed.failure.error, TooManyErrorsError)
    assert isinstance(failed.failure.error.__cause__, ZeroDivisionError)
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert sum(write.result.skipped for write in bench.writer.writes()) == 3
