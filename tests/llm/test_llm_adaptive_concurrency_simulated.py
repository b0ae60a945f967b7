"""An endpoint that takes so many calls at once, in simulated time: how many 429s there are, and how many answers."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable
from itertools import count
from random import Random

import pytest

from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.permit import CallOutcome, Permit, Waiter


class World:
    """Workers that always have a row to ask for, and an endpoint that turns away what is too much at once.

    Args:
        workers: of the node.
        at_once: calls that the endpoint takes; may be set at any time.
        seconds: that a call takes.
        share: of calls that are turned away anyway.
    """

    def __init__(self, *, workers: int, at_once: float, seconds: float, share: float = 0.0) -> None:
        self.now = 0.0
        self.at_once = at_once
        self.open = 0
        self.lowest = math.inf
        self.counts: Counter[tuple[str, int]] = Counter()
        self.limiter = Limiter(clock=lambda: self.now)
        self.limiter.attach(Limits())
        self._seconds = seconds
        self._share = share
        self._random = Random(3)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        for _ in range(workers):
            self._ask(1)

    def run(self, until: float) -> None:
        while self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()

    def counted(self, what: str, seconds: range) -> int:
        return sum(self.counts[what, second] for second in seconds)

    def _later(self, seconds: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), do))

    def _ask(self, attempt: int) -> None:
        permit = self.limiter.enter(0)
        if permit is not None:
            self._send(permit, attempt)
            return
        is_sent = False

        def look() -> None:
            nonlocal is_sent
            turn = math.inf if is_sent else self.limiter.turn(waiter)
            if isinstance(turn, Permit):
                is_sent = True
                self._send(turn, attempt)
            elif turn < math.inf:
                self._later(turn, look)

        waiter = Waiter(0, lambda: self._later(0.0, look))
        self.limiter.queue(waiter)
        look()

    def _send(self, permit: Permit, attempt: int) -> None:
        is_let_in = self.open < self.at_once and self._random.random() >= self._share
        self.open += is_let_in
        seconds = self._seconds * self._random.uniform(0.8, 1.2) if is_let_in else 0.005
        self._later(seconds, lambda: self._end(permit, attempt, is_let_in))

    def _end(self, permit: Permit, attempt: int, is_answered: bool) -> None:
        self.open -= is_answered
        self.counts["answers" if is_answered else "429s", int(self.now)] += 1
        changed = self.limiter.leave(permit, CallOutcome(is_answered=is_answered, is_throttled=not is_answered))
        self.lowest = min(self.lowest, changed or math.inf)
        pause = 0.0 if is_answered else self._random.uniform(0, min(60.0, 2.0 ** (attempt - 1)))
        self._later(pause, lambda: self._ask(1 if is_answered else attempt + 1))


@pytest.mark.parametrize(("at_once", "seconds"), [(10, 0.2), (10, 1.0), (4, 3.0)])
def test_sustained_429s_end_the_endpoint_stays_busy_and_all_is_as_before_when_it_takes_more(
    at_once: int, seconds: float
) -> None:
    world = World(workers=25, at_once=at_once, seconds=seconds)
    settled, end = int(20 * seconds) + 10, int(120 * seconds) + 20
    world.run(end)
    answers = world.counted("answers", range(settled, end))
    assert answers >= 0.9 * (end - settled) * at_once / seconds
    assert world.counted("429s", range(settled, end)) <= 0.15 * answers
    world.at_once = math.inf
    world.run(end + 25 * 3 * seconds * 1.5)
    assert world.open == 25


def test_two_percent_of_429s_lower_nothing() -> None:
    world = World(workers=50, at_once=math.inf, seconds=0.5, share=0.02)
    world.run(200.0)
    assert world.counted("answers", range(200)) > 15_000
    assert world.lowest == math.inf
