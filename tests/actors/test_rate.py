"""The rate of a node: never more rows than it allows, in any stretch of time."""

from __future__ import annotations

import random
import sys

from llm_datagen.actors.rate_limit import BURST_SECONDS, RateLimit
from llm_datagen.testing import ManualClock


def test_no_stretch_of_time_has_more_rows_than_the_rate_allows() -> None:
    """Random looks, batches, rows that come back, and changes of the rate; all stretches are compared."""
    for seed in range(30):
        chance = random.Random(seed)
        clock = ManualClock()
        rate, step = chance.choice([0.5, 10.0, 400.0]), chance.choice([1, 7])
        limit = RateLimit(clock, rate)
        taken: list[tuple[float, int]] = []
        for _ in range(150):
            clock.advance(chance.random() / rate * chance.choice([0.1, 1, 30]))
            if rows := limit.rows():
                rows = max(chance.randint(1, rows), step)
                limit.spend(rows)
                back = chance.choice([0, 0, rows // 2])
                limit.give_back(back)
                taken.append((clock.monotonic(), rows - back))
            else:
                before = clock.monotonic()
                clock.advance(limit.wait())
                assert limit.rows() >= 1, "the wait was too short"
                assert clock.monotonic() > before
        for first in range(len(taken)):
            total = 0
            for at, rows in taken[first:]:
                total += rows
                allowed = rate * (at - taken[first][0] + BURST_SECONDS) + step
                assert total <= allowed + 1e-6
        assert sum(rows for _, rows in taken) >= rate * clock.monotonic() * 0.02


def test_the_seconds_that_rows_wait_for_a_rate_are_summed() -> None:
    """While there are rows that could begin; without a rate, nothing waits for it."""
    clock = ManualClock()
    limit = RateLimit(clock, 2.0)
    for rows in (3, 1, 0, 2):
        limit.holds_back(rows)
        clock.advance(1.5)
    assert limit.waited == 3.0, "until somebody looks again"
    limit.change(None)
    limit.holds_back(0)
    clock.advance(1.0)
    limit.holds_back(5)
    clock.advance(1.0)
    limit.holds_back(0)
    assert limit.waited == 4.5


def test_without_a_rate_there_is_no_limit_and_one_can_be_set_and_taken_off() -> None:
    clock = ManualClock()
    limit = RateLimit(clock, None)
    limit.spend(10_000)
    assert limit.rows() == sys.maxsize
    limit.change(2.0)
    assert limit.rows() == 1
    limit.spend(1)
    assert limit.rows() == 0
    limit.change(None)
    assert limit.rows() == sys.maxsize
