"""The manual clock: tests of timers need no sleeps, and lose no wake-up (H6)."""

from __future__ import annotations

import threading
import time

import pytest

from llm_datagen.actors.clock import Clock, SystemClock
from llm_datagen.testing import ManualClock

from ..kit.actors import aside, result_of


def wait(clock: Clock, condition: threading.Condition, deadline: float | None) -> float:
    """Wait until the clock says that it is time."""
    with condition:
        while deadline is None or clock.monotonic() < deadline:
            clock.wait_until(condition, deadline)
            if deadline is None:
                break
    return clock.monotonic()


@pytest.mark.usefixtures("restless")
def test_no_wake_up_is_lost_when_the_clock_moves_while_someone_begins_to_wait() -> None:
    """H6: `advance` comes before or after, never in between."""
    for _ in range(200):
        clock = ManualClock(100)
        waiting = aside(wait, clock, threading.Condition(), 101.0)
        clock.advance(0.5)
        clock.advance(0.5)
        assert result_of(waiting) == 101


def test_many_may_wait_on_one_condition() -> None:
    """H6: all are woken; a notify wakes one as usual."""
    clock, condition = ManualClock(), threading.Condition()
    waiting = [aside(wait, clock, condition, 5.0) for _ in range(3)]
    clock.advance(5)
    assert [result_of(one) for one in waiting] == [5, 5, 5]


def test_a_deadline_that_is_over_is_not_waited_for() -> None:
    """H6: neither by the manual clock nor by the machine's."""
    condition = threading.Condition()
    assert wait(ManualClock(7), condition, 7.0) == 7
    now = time.monotonic()
    with condition:
        SystemClock().wait_until(condition, now - 1)
        SystemClock().wait_until(condition, now + 0.001)
    assert time.monotonic() >= now + 0.001


def test_a_notify_ends_a_wait_without_an_end() -> None:
    """H6: this is how a message arrives."""
    clock, condition = ManualClock(), threading.Condition()
    waiting = aside(wait, clock, condition, None)
    while not waiting.done():
        with condition:
            condition.notify()
    assert result_of(waiting) == 0
