"""The limits of an endpoint, in simulated time: no minute of the endpoint's own holds more than they allow."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.permit import CallOutcome, Permit, Waiter


@dataclass
class Call:
    arrives: float
    takes: float
    reserves: int
    uses: int
    booked: float  # from 0, when it is sent, to 1, when it ends: when the endpoint counts it


@dataclass
class Simulation:
    """Makes calls in simulated time."""

    limits: Limits
    now: float = 0.0
    booked: list[tuple[float, int]] = field(default_factory=list)
    sent: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.limiter = Limiter(clock=lambda: self.now, window=60.0)
        self.limiter.attach(self.limits)
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()

    def at(self, when: float, do: Callable[[], object]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), do))

    def run(self, calls: list[Call], until: float = math.inf) -> None:
        for call in calls:
            self.at(call.arrives, lambda call=call: self._arrive(call))  # type: ignore[misc]
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()

    def _arrive(self, call: Call) -> None:
        permit = self.limiter.enter(call.reserves)
        if permit is not None:
            self._send(call, permit)
            return
        is_sent = False

        def look() -> None:
            nonlocal is_sent
            if is_sent:
                return
            turn = self.limiter.turn(waiter)
            if isinstance(turn, Permit):
                is_sent = True
                self._send(call, turn)
            elif turn < math.inf:
                self.at(self.now + turn, look)

        waiter = Waiter(call.reserves, lambda: self.at(self.now, look))
        self.limiter.queue(waiter)
        look()

    def _send(self, call: Call, permit: Permit) -> None:
        self.sent.append(call)
        ends = self.now + call.takes
        self.booked.append((self.now + call.booked * call.takes, call.uses))
        self.at(ends, lambda: self.limiter.leave(permit, CallOutcome(used=call.uses, is_answered=True)))

    def fullest_minute(self) -> tuple[int, int]:
        """Return the most requests and the most tokens that were booked within a minute."""
        requests = tokens = 0
        booked = sorted(self.booked)
        for k, (start, _) in enumerate(booked):
            minute = [used for when, used in booked[k:] if when < start + 60.0]
            requests, tokens = max(requests, len(minute)), max(tokens, sum(minute))
        return requests, tokens


@st.composite
def _calls(draw: Any) -> list[Call]:
    times = st.integers(0, 1600).map(lambda eighths: eighths / 8)  # exact sums
    calls = []
    for arrives in draw(st.lists(times, min_size=1, max_size=60)):
        reserves = draw(st.integers(1, 100))
        calls.append(
            Call(
                arrives=arrives,
                takes=draw(times),
                reserves=reserves,
                uses=draw(st.integers(0, reserves)),
                booked=draw(st.sampled_from([0.0, 0.5, 1.0])),
            )
        )
    return sorted(calls, key=lambda call: call.arrives)


@settings(max_examples=60, deadline=None)
@given(_calls(), st.none() | st.integers(1, 8), st.none() | st.integers(100, 400))
def test_no_sliding_minute_of_the_endpoint_holds_more_than_the_limit_and_nobody_is_overtaken(
    calls: list[Call], requests: int | None, tokens: int | None
) -> None:
    simulation = Simulation(Limits(requests_per_minute=requests, tokens_per_minute=tokens))
    simulation.run(calls)
    assert simulation.sent == calls  # all of them, in order
    most_requests, most_tokens = simulation.fullest_minute()
    assert most_requests <= (requests or math.inf)
    assert most_tokens <= (tokens or math.inf)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.integers(1, 400), st.sampled_from([None, 4_000, 12_000]), st.integers(0, 2**32))
def test_when_more_is_wanted_than_the_limit_at_least_95_percent_of_it_is_used(
    requests: int, tokens: int | None, seed: int
) -> None:
    draw = random.Random(seed)
    minutes = 4
    simulation = Simulation(Limits(requests_per_minute=requests, tokens_per_minute=tokens))
    simulation.run(
        [
            Call(0.0, draw.uniform(0.1, 2.0), 40, draw.randint(20, 40), draw.random())
            for _ in range(requests * (minutes + 1))
        ],
        until=minutes * 60.0,
    )
    used = sum(tokens for when, tokens in simulation.booked)
    share = max(len(simulation.booked) / (requests * minutes), used / (tokens or math.inf) / minutes)
    assert share >= 0.95


def test_an_answer_that_used_more_than_was_reserved_is_made_up_for_by_the_next_calls() -> None:
    simulation = Simulation(Limits(tokens_per_minute=100))
    simulation.run([Call(0, 1, 50, 140, 0), Call(2, 1, 50, 50, 0), Call(2, 1, 100, 100, 0)])
    assert [when for when, _ in simulation.booked] == [0, 61, 122]


def test_of_several_limits_the_lowest_hold_as_long_as_their_layers_are_open() -> None:
    limiter = Limiter()
    low, high = Limits(requests_per_minute=1), Limits(requests_per_minute=3, tokens_per_minute=9)
    limiter.attach(low)
    limiter.attach(high)
    assert limiter.limits == Limits(requests_per_minute=1, tokens_per_minute=9)
    assert limiter.enter(1) is not None
    assert limiter.enter(1) is None
    limiter.detach(low)
    assert limiter.enter(1) is not None
    assert limiter.enter(8) is None
    limiter.detach(high)
    assert limiter.enter(8) is not None
