"""Adaptive chunking: how much work goes into a task of a node, and how much is fetched ahead.

A task costs a few messages and thread switches, about 0.1 ms. An operator that takes microseconds must not pay that
per row, so a task of a cheap operator carries many calls, about `TASK_SECONDS` worth of them; a task of a slow
one (a model call) carries one. `batch_size` is what the operator gets, and has no part in this.

What a wrong guess costs is bounded: the node takes from a task that is late what was not begun (`LATE_SECONDS`).

Threads that compute hold Python's global lock. A third one would not make a cheap operator faster, and has memory of
its own, so such an operator has two threads, and one more whenever they are seen not to stand in each other's way. One
that mostly waits has all that it may have.
"""

from __future__ import annotations

import os

from llm_datagen.executors.base import TASK_SECONDS

MAX_ROWS = 4096
"""Rows per task, at most (unless a single batch is larger)."""

FIRST_WORKERS = 2
"""Workers before anything is known of the operator, and of one that computes."""

WAITS_BELOW = 0.15
"""A worker that computes for a smaller share of its time mostly waits: more workers do more."""

COMPUTES_ABOVE = 0.8
"""A worker that computes for a larger share of its time does not wait for the others."""

BYTES_AHEAD = 4 * 1024 * 1024
"""Rows fetched ahead take at most about so many bytes; so do those of the tasks of a cheap operator."""

LATE_SECONDS = 0.025
"""A task of several calls in which one takes longer is late."""


class AdaptiveChunking:
    """What a node has learned of its operator's speed.

    Args:
        concurrency: calls at once, at most.
        step: rows per call.
        queue_size: rows that the writer holds, at most; a task is never larger.
        spare: tasks of a slow operator that may wait for one of many workers, so that none is idle between two tasks.
        is_gil_bound: whether workers that compute hold one another up.
        task_seconds: how long a task of a cheap operator should take; half of that is a slow call, with its own task.
    """

    def __init__(
        self,
        concurrency: int,
        step: int,
        queue_size: int,
        *,
        spare: int = 0,
        is_gil_bound: bool = False,
        task_seconds: float = TASK_SECONDS,
    ) -> None:
        self._concurrency = concurrency
        self._spare = spare
        self._is_gil_bound = is_gil_bound
        self._cheap_workers = FIRST_WORKERS
        self._share = 0.5
        self._step = step
        self._max_calls = max(1, min(MAX_ROWS, queue_size) // step)
        self._task_seconds = task_seconds
        self._slow_seconds = task_seconds / 2
        self._seconds_per_call: float | None = None
        self._calls = 1

    def resize(self, concurrency: int, *, spare: int) -> None:
        """Take other limits from now on; what was learned of the operator stays."""
        self._concurrency, self._spare = concurrency, spare

    def learn(self, calls: int, seconds: float, cpu_seconds: float = 0.0) -> None:
        """Learn that `calls` calls took `seconds`, of which `cpu_seconds` were computing."""
        if not calls:
            return
        self._seconds_per_call = seconds / calls
        if self._seconds_per_call >= self._slow_seconds:
            self._calls = 1
        else:
            self._calls = max(1, min(self._max_calls, int(self._task_seconds / max(self._seconds_per_call, 1e-9))))
            self._weigh(cpu_seconds / max(seconds, 1e-9))

    def _weigh(self, share: float) -> None:
        """Decide how many workers a cheap operator has, which computes for `share` of its time."""
        self._share += 0.2 * (min(share, 1.0) - self._share)
        if self._share < WAITS_BELOW:
            self._cheap_workers = self._concurrency
        elif self._share > COMPUTES_ABOVE and self._cheap_workers < (os.cpu_count() or 1):
            self._cheap_workers += 1

    def open_up(self) -> None:
        """Stop being careful: nothing came back for a while, so the operator is slow."""
        if self._seconds_per_call is None:
            self.slow_down()

    def slow_down(self) -> None:
        """Learn that a call takes long: from now on each has a task of its own, until more is known."""
        self._seconds_per_call = self._slow_seconds
        self._calls = 1

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the operator."""
        return self._seconds_per_call is not None

    @property
    def is_grouping(self) -> bool:
        """Whether a task carries several calls."""
        return self._calls > 1

    @property
    def tasks(self) -> int:
        """Tasks at once, at most."""
        if not self.is_known:
            return min(self._concurrency, FIRST_WORKERS)
        if not self.is_grouping:
            return self._concurrency + self._spare
        return min(self._concurrency, self._cheap_workers) if self._is_gil_bound else self._concurrency

    @property
    def rows_per_task(self) -> int:
        """Rows that a task should carry."""
        return self._calls * self._step

    @property
    def rows_ahead(self) -> int:
        """Rows that should wait to be handed out. More are fetched when half of them are left."""
        return max(2 * self.rows_per_task, self._concurrency * self._step)

    def ordered_span(self, largest: int = 0) -> int:
        """Return how far ahead of the first undelivered row a node that keeps the order may hand out rows.

        Args:
            largest: rows of the largest task in flight. One that was grouped, and has come to a slow row, holds rows
                before it: these must not fill the window.
        """
        return 8 * self._concurrency * self._step + 4 * max(self.rows_per_task, largest)
