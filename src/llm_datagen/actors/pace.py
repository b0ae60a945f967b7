"""The pace of a node: how much work goes into a task, and how much is fetched ahead.

A task costs a few messages and thread switches, about 0.1 ms. An operator that takes microseconds must not pay that
for every row, so a task of a cheap operator carries many calls, about `TASK_SECONDS` worth of them; a task of a slow
one (a model call) carries one. `batch_size` is what the operator gets, and has no part in this.
"""

from __future__ import annotations

from llm_datagen.executors.base import TASK_SECONDS

MAX_ROWS = 4096
"""Rows a task, at most (unless a single batch is larger)."""

FIRST_WORKERS = 4
"""Workers before anything is known of the operator."""

BYTES_AHEAD = 4 * 1024 * 1024
"""Rows fetched ahead take at most about so many bytes."""


class Pace:
    """What a node has learned of its operator's speed.

    Args:
        concurrency: calls at once, at most.
        step: rows a call.
        queue_size: rows that the writer holds, at most; a task is never larger.
        task_seconds: how long a task of a cheap operator should take; a call that
            takes half of it has a task of its own.
    """

    def __init__(self, concurrency: int, step: int, queue_size: int, task_seconds: float = TASK_SECONDS) -> None:
        self._concurrency = concurrency
        self._step = step
        self._max_calls = max(1, min(MAX_ROWS, queue_size) // step)
        self._seconds_per_call: float | None = None
        self._calls = 1
        self._task_seconds = task_seconds
        self._slow_seconds = task_seconds / 2
        self.bytes_ahead = BYTES_AHEAD

    def learn(self, calls: int, seconds: float) -> None:
        """Take note that `calls` calls took `seconds`."""
        if not calls:
            return
        now = seconds / calls
        known = self._seconds_per_call
        # Slowing down is believed at once, speeding up by and by.
        self._seconds_per_call = now if known is None or now > known else 0.5 * known + 0.5 * now
        if self._seconds_per_call >= self._slow_seconds:
            self._calls = 1
        else:
            self._calls = max(1, min(self._max_calls, int(self._task_seconds / max(self._seconds_per_call, 1e-9))))

    def open_up(self) -> None:
        """Stop being careful: nothing came back for a while, so the operator is slow."""
        if self._seconds_per_call is None:
            self._seconds_per_call = self._slow_seconds

    @property
    def is_known(self) -> bool:
        """Whether anything is known of the operator."""
        return self._seconds_per_call is not None

    @property
    def workers(self) -> int:
        """Tasks at once, at most."""
        return self._concurrency if self.is_known else min(self._concurrency, FIRST_WORKERS)

    @property
    def rows_per_task(self) -> int:
        """Rows a task should carry."""
        return self._calls * self._step

    @property
    def rows_ahead(self) -> int:
        """Rows that should wait to be handed out."""
        return max(2 * self.rows_per_task, self._concurrency * self._step)

    @property
    def ordered_span(self) -> int:
        """How far ahead of the first undelivered row a node that keeps the order may hand out rows."""
        return 8 * self._concurrency * self._step + 4 * self.rows_per_task
