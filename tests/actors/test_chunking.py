"""Adaptive chunking: cheap calls travel together, slow ones alone, and nothing grows without a bound (M10)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.actors import chunking
from llm_datagen.actors.chunking import AdaptiveChunking
from llm_datagen.executors.base import TASK_SECONDS


def test_cheap_calls_are_grouped_until_a_task_is_worth_its_messages() -> None:
    """M10: a row at a time would cost ten times what a cheap operator does."""
    known = AdaptiveChunking(4, 1, 10_000)
    assert known.rows_per_task == 1
    known.learn(1, 1e-5)
    assert known.rows_per_task == round(TASK_SECONDS / 1e-5)
    for _ in range(50):
        known.learn(1000, 1e-3)
    assert known.rows_per_task > 3000


def test_slow_calls_have_a_task_each_and_slowing_down_is_believed_at_once() -> None:
    """M10: rows grouped with a slow one would wait for it."""
    known = AdaptiveChunking(4, 1, 10_000)
    known.learn(1000, 0.001)
    known.learn(1, TASK_SECONDS / 2)
    assert known.rows_per_task == 1


def test_few_workers_begin_until_something_is_known() -> None:
    """M10: a thread for each row of a cheap operator would cost more than the rows."""
    known = AdaptiveChunking(100, 1, 10_000)
    assert known.tasks == chunking.FIRST_WORKERS
    assert not known.is_known
    known.open_up()
    assert known.tasks == 100
    assert known.rows_per_task == 1
    known.learn(1, 1e-6)
    assert known.tasks == 100


def test_what_is_known_is_not_forgotten_when_it_opens_up() -> None:
    """M10: the timer may come late."""
    known = AdaptiveChunking(2, 1, 10_000)
    known.learn(1, 1e-5)
    before = known.rows_per_task
    known.open_up()
    known.learn(0, 10.0)
    assert known.rows_per_task == before


@given(
    st.integers(1, 64),
    st.integers(1, 500),
    st.integers(1, 20_000),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 10))),
)
def test_tasks_stay_within_bounds(concurrency: int, step: int, queue: int, seen: list[tuple[int, float]]) -> None:
    """M10, M20: never more at once than allowed; a task is never larger than the writer's queue, but for one batch."""
    known = AdaptiveChunking(concurrency, step, queue)
    for calls, seconds in seen:
        known.learn(calls, seconds)
        assert 1 <= known.tasks <= concurrency
        assert known.rows_per_task % step == 0
        assert known.rows_per_task <= max(step, min(queue, chunking.MAX_ROWS))
        assert known.rows_ahead >= max(2 * known.rows_per_task, concurrency * step)
        assert known.ordered_span() >= known.rows_per_task + step, "else an ordered node could not go on"


@pytest.mark.parametrize("seconds", [0.0, 1e-12])
def test_a_call_that_takes_no_time_is_no_problem(seconds: float) -> None:
    """M10: clocks are coarse."""
    known = AdaptiveChunking(1, 1, 10_000)
    known.learn(5, seconds)
    assert known.rows_per_task == chunking.MAX_ROWS


def test_a_tasks_length_follows_what_the_executor_says_a_task_should_take() -> None:
    """M10: processes cost more a task than threads do; half of it is a slow call."""
    short, long = AdaptiveChunking(4, 1, 10_000), AdaptiveChunking(4, 1, 10_000, task_seconds=10 * TASK_SECONDS)
    for known in (short, long):
        known.learn(10, 10 * 1e-5)
    assert long.rows_per_task == pytest.approx(10 * short.rows_per_task, abs=10)
    for known in (short, long):
        known.learn(1, TASK_SECONDS / 2)
    assert (short.is_grouping, long.is_grouping) == (False, True)


def test_tasks_of_a_slow_operator_may_wait_for_one_of_many_workers() -> None:
    """M10: a worker that has ended one finds the next one there."""
    known = AdaptiveChunking(16, 1, 10_000, spare=2)
    assert known.tasks == chunking.FIRST_WORKERS
    known.open_up()
    assert known.tasks == 16 + 2
    known.learn(1000, 1e-3)
    assert known.tasks == 16
    known.slow_down()
    assert known.tasks == 16 + 2
    never = AdaptiveChunking(16, 1, 10_000)
    never.learn(1000, 1e-3)
    assert never.tasks == 16


def gil_bound(concurrency: int = 16) -> AdaptiveChunking:
    """Return the chunking of a cheap operator on threads."""
    known = AdaptiveChunking(concurrency, 1, 10_000, is_gil_bound=True)
    known.learn(1000, 1e-3)
    return known


def test_a_cheap_operator_that_computes_has_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """M10: others would wait for Python's lock, each with memory of its own."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    known = gil_bound()
    for _ in range(50):
        known.learn(1000, 1e-3, 0.5e-3)  # each has the lock for half of its time
    assert known.tasks == chunking.FIRST_WORKERS
    assert AdaptiveChunking(1, 1, 10_000, is_gil_bound=True).tasks == 1


def test_a_cheap_operator_that_gives_up_the_lock_has_a_thread_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """M10: as NumPy does; they compute all the time, and are not seen to stand in each other's way."""
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    known = gil_bound()
    seen = []
    for _ in range(50):
        known.learn(1000, 1e-3, 1e-3)
        seen.append(known.tasks)
    assert seen[0] == chunking.FIRST_WORKERS, "one look is not enough"
    assert seen[-1] == 5
    few = gil_bound(3)
    for _ in range(50):
        few.learn(1000, 1e-3, 1e-3)
    assert few.tasks == 3


def test_a_cheap_operator_that_waits_has_all_that_it_may_have() -> None:
    """M10: a look into a cache on the network takes a millisecond, and no core."""
    known = gil_bound()
    for _ in range(20):
        known.learn(1000, 1e-3, 0.01e-3)
    assert known.tasks == 16


def test_a_call_that_takes_long_frees_the_rows_behind_it_until_more_is_known() -> None:
    """M10: the node says so before the call has come back; then each call has a task, and they may group again."""
    known = AdaptiveChunking(4, 5, 10_000)
    known.learn(1000, 1e-3)
    assert known.is_grouping
    known.slow_down()
    assert (known.is_grouping, known.rows_per_task) == (False, 5)
    known.learn(1, 1e-6)
    assert known.is_grouping
