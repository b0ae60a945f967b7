"""Retries: when a call that raised is made again."""

from __future__ import annotations

import time
from collections.abc import Callable

from llm_datagen.config import FailurePolicy
from llm_datagen.executors.backoff import Backoff

_SLICE_SECONDS = 0.05


class Retries:
    """When to try again.

    Args:
        policy: how often, and after how long.
    """

    def __init__(self, policy: FailurePolicy) -> None:
        self._retries = policy.retries
        self._backoff = Backoff(policy.retry_wait) if policy.retries else None

    def pause_after(self, attempts: int) -> float | None:
        """Return the seconds to wait after so many attempts; None when they were enough."""
        return None if self._backoff is None or attempts > self._retries else self._backoff.after(attempts)

    @staticmethod
    def sleep(seconds: float, is_interrupted: Callable[[], bool]) -> None:
        """Wait on a worker thread; less when the run is paused or cancelled meanwhile."""
        until = time.monotonic() + seconds
        while not is_interrupted() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))

    @staticmethod
    async def sleep_async(seconds: float, is_interrupted: Callable[[], bool]) -> None:
        """Wait on the event loop; less when the run is paused or cancelled meanwhile."""
        import asyncio

        until = time.monotonic() + seconds
        while not is_interrupted() and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _SLICE_SECONDS))
