"""Adaptive concurrency: fewer calls in flight while the endpoint keeps answering 429, more again afterwards.

Additive increase, multiplicative decrease. There is no limit until 429s are sustained: when they come
for more than `SUSTAINED_SECONDS`, and are more than a tenth of the answers. Single ones, and a burst of them, change
nothing: those calls are tried again. Then the limit falls to 0.7 of the calls in flight, and rises by one after
three times as many answers in a row as it allows calls.
"""

from __future__ import annotations

import heapq
import math

SUSTAINED_SECONDS = 1.0
"""A call that is sent this long after the first 429, and turned away as well, shows that it lasts."""

_WEIGHT = 10  # of a 429 against answers
_PRESSURE = 6 * _WEIGHT
_FALL = 0.7
_SMOOTHING = 0.1
_CLIMB = 3  # answers in a row for each call that is allowed
_REST_CALLS = 3
_REST_SECONDS = 1.0
_MAX_REST_SECONDS = 60.0


class AdaptiveConcurrency:
    """The most calls in flight. Not safe for several threads.

    Attributes:
        limit: 1 or more; infinity when there is none.
        peak: the most calls that were in flight: what those who call have to give. A limit as high as that is none.
    """

    def __init__(self) -> None:
        self.limit: float = math.inf
        self.peak = 0
        self._pressure = 0  # what 429s add to, and answers take from
        self._began_at = 0.0
        self._fell_at = -math.inf
        self._in_a_row = 0  # answers since the last change, or the last 429
        self._seconds = 0.0  # that a call takes, about
        self._rests: list[float] = []

    def room_at(self, in_flight: int, now: float) -> float:
        """Return when another call may be sent; infinity when that depends on calls in flight."""
        if math.isinf(self.limit):
            return now
        while self._rests and self._rests[0] <= now:
            heapq.heappop(self._rests)
        excess = in_flight + len(self._rests) + 1 - int(self.limit)
        if excess <= 0:
            return now
        return heapq.nsmallest(excess, self._rests)[-1] if excess <= len(self._rests) else math.inf

    def record_429(self, *, in_flight: int, sent_at: float, now: float, retry_after: float | None) -> bool:
        """Record a call that was answered with 429; return whether the limit falls.

        Args:
            in_flight: calls in flight, with this one.
            sent_at: when it was sent.
            now: the moment.
            retry_after: seconds that the endpoint asks to wait.
        """
        if sent_at < self._fell_at:  # it went out before the limit fell, and says nothing of the new one
            return False
        self._in_a_row = 0
        if self._pressure == 0:
            self._began_at = now
        self._pressure = min(self._pressure + _WEIGHT, 2 * _PRESSURE)
        if self._pressure < _PRESSURE or sent_at < self._began_at + SUSTAINED_SECONDS:
            self._rest(now, retry_after)
            return False
        self.limit = max(1, math.floor(min(self.limit, in_flight) * _FALL))
        self._pressure, self._fell_at = 0, now
        return True

    def record_answer(self, seconds: float) -> bool:
        """Record an answer, and how long the call took; return whether that lifts the limit."""
        self._pressure = max(0, self._pressure - 1)
        self._seconds += (seconds - self._seconds) * _SMOOTHING
        if math.isinf(self.limit):
            return False
        self._in_a_row += 1
        if self._in_a_row < _CLIMB * self.limit:
            return False
        self.limit += 1
        self._in_a_row = 0
        if self.limit < self.peak:
            return False
        self.limit = math.inf
        self._rests.clear()
        return True

    def _rest(self, now: float, retry_after: float | None) -> None:
        """Leave the place of a call that was turned away empty for a while, or the next row would run into the same."""
        if math.isfinite(self.limit):
            seconds = max(_REST_SECONDS, _REST_CALLS * self._seconds, retry_after or 0.0)
            heapq.heappush(self._rests, now + min(seconds, _MAX_REST_SECONDS))
