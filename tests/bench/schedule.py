"""The ideal: how long rows that sleep must take, if nothing but their sleep cost time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def ideal_seconds(durations: Sequence[float], workers: int) -> float:
    """Return how long greedy list scheduling takes: each row, in order, begins when the next of `workers` is free.

    For rows of one length that is ``ceil(rows / workers) * seconds``. For others it is at least the sum of all divided
    by `workers`, and more by what the last slow rows stick out, which no engine that takes rows in order can avoid.
    """
    free = [0.0] * min(workers, max(1, len(durations)))
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)
