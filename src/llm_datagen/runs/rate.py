"""The speed of a node. Whoever measures one does it by these: the run state, and displays of the process itself."""

from __future__ import annotations

from collections import deque

RATE_SECONDS = 10.0
"""The rate of a running node is over so many of the last seconds."""


class RateWindow:
    """How many rows were done when, over the last seconds. Used by one thread at a time.

    Args:
        now: when it begins, in seconds.
        done: how many rows were done then.
    """

    def __init__(self, now: float, done: int) -> None:
        self._samples: deque[tuple[float, int]] = deque([(now, done)])

    def add(self, now: float, done: int) -> None:
        """Note that so many rows are done now."""
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()

    def rate(self, now: float) -> float:
        """Return the rows per second: fewer and fewer, the longer none was done."""
        (since, was), (_, done) = self._samples[0], self._samples[-1]
        return mean_rate(done - was, now - since)


def mean_rate(rows: int, seconds: float) -> float:
    """Return the rows per second.

    Args:
        rows: how many were done. Fewer than none are none: a replay counts less at first than was done before.
        seconds: in what time.
    """
    return max(0, rows) / max(seconds, 1e-3)
