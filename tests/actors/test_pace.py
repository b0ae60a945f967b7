"""The pace: cheap calls travel together, slow ones alone, and nothing grows without a bound (M10)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.actors import pace
from llm_datagen.actors.pace import Pace
from llm_datagen.executors.base import TASK_SECONDS


def test_cheap_calls_are_grouped_until_a_task_is_worth_its_messages() -> None:
    """M10: a row at a time would cost ten times what a cheap operator does."""
    known = Pace(4, 1, 10_000)
    assert known.rows_per_task == 1
    known.learn(1, 1e-5)
    assert known.rows_per_task == round(TASK_SECONDS / 1e-5)
    for _ in range(50):
        known.learn(1000, 1e-3)
    assert known.rows_per_task > 3000


def test_slow_calls_have_a_task_each_and_slowing_down_is_believed_at_once() -> None:
    """M10: rows grouped with a slow one would wait for it."""
    known = Pace(4, 1, 10_000)
    known.learn(1000, 0.001)
    known.learn(1, TASK_SECONDS / 2)
    assert known.rows_per_task == 1
    known.learn(1, 1e-6)
    assert known.rows_per_task < 10, "one quick call among slow ones, such as one from a cache, changes little"


def test_few_workers_begin_until_something_is_known() -> None:
    """M10: a thread for each row of a cheap operator would cost more than the rows."""
    known = Pace(100, 1, 10_000)
    assert known.tasks == pace.FIRST_WORKERS
    assert not known.is_known
    known.open_up()
    assert known.tasks == 100
    assert known.rows_per_task == 1
    known.learn(1, 1e-6)
    assert known.tasks == 100


def test_what_is_known_is_not_forgotten_when_it_opens_up() -> None:
    """M10: the timer may come late."""
    known = Pace(2, 1, 10_000)
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
    known = Pace(concurrency, step, queue)
    for calls, seconds in seen:
        known.learn(calls, seconds)
        assert 1 <= known.tasks <= concurrency
        assert known.rows_per_task % step == 0
        assert known.rows_per_task <= max(step, min(queue, pace.MAX_ROWS))
        assert known.rows_ahead >= max(2 * known.rows_per_task, concurrency * step)
        assert known.ordered_span >= known.rows_per_task + step, "else an ordered node could not go on"


@pytest.mark.parametrize("seconds", [0.0, 1e-12])
def test_a_call_that_takes_no_time_is_no_problem(seconds: float) -> None:
    """M10: clocks are coarse."""
    known = Pace(1, 1, 10_000)
    known.learn(5, seconds)
    assert known.rows_per_task == pace.MAX_ROWS
