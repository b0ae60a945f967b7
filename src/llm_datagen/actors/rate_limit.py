"""The rate limit of a node: how many rows per second it hands out, at most."""

from __future__ import annotations

import sys

from llm_datagen.actors.clock import Clock
from llm_datagen.actors.wait_clock import WaitClock

BURST_SECONDS = 0.05
"""Rows that were not handed out for so long may be handed out at once. (A token bucket of that depth.)"""

_POLL_SECONDS = 0.01


class RateLimit:
    """Says how many rows may be handed out now. Used by the node's own thread.

    In any stretch of `t` seconds at most ``rate * (t + BURST_SECONDS)`` rows are handed out, and one batch (one item,
    for operators that take items).

    Args:
        clock: what time it is.
        rate: rows per second; None for no limit.
    """

    def __init__(self, clock: Clock, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._at = clock.monotonic()
        self._left = 1.0
        self._wait_clock = WaitClock(clock)

    @property
    def waited(self) -> float:
        """Seconds in which rows could have begun, and it did not let them."""
        return self._wait_clock.waited

    def change(self, rate: float | None) -> None:
        """Let another rate hold from now on."""
        self._refill()
        self._rate = rate
        self._left = min(self._left, 1.0)

    def rows(self) -> int:
        """Return how many rows may be handed out; 0 for none."""
        if self._rate is None:
            return sys.maxsize
        self._refill()
        return max(int(self._left + 1e-6), 0)  # a sum of small parts of a row may fall just short

    def spend(self, rows: int) -> None:
        """Count rows that were handed out; a batch may be more than what was left."""
        if self._rate is not None:
            self._left -= rows

    def give_back(self, rows: int) -> None:
        """Count rows that were taken back, and will be handed out again."""
        if self._rate is not None:
            self._left = min(self._left + rows, self._depth(self._rate))

    def holds_back(self, rows: int) -> None:
        """Note that from now on so many rows could begin if it let them; 0: it is not what they wait for."""
        self._wait_clock.note(rows > 0 and self._rate is not None)

    def wait(self) -> float:
        """Return the seconds after which to ask again, when no row may be handed out."""
        return max((1.0 - self._left) / self._rate, _POLL_SECONDS) if self._rate else 0.0

    def _refill(self) -> None:
        now = self._clock.monotonic()
        if self._rate is not None:
            self._left = min(self._left + (now - self._at) * self._rate, self._depth(self._rate))
        self._at = now

    @staticmethod
    def _depth(rate: float) -> float:
        return max(rate * BURST_SECONDS, 1.0)
