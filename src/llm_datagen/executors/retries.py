"""Retries: when a call that raised is made again. The schedule is tenacity's: exponential, with jitter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from llm_datagen.config import FailurePolicy

MAX_WAIT_SECONDS = 60.0
_SLICE_SECONDS = 0.05


class Retries:
    """When to try again.

    Args:
        policy: how often, and after how long.
    """

    def __init__(self, policy: FailurePolicy) -> None:
        self._retries = policy.retries
        self._schedule: Any = None
        if policy.retries:
            from tenacity import wait_random_exponential

            self._schedule = wait_random_exponential(multiplier=policy.retry_wait, max=MAX_WAIT_SECONDS)

    def pause_after(self, attempts: int) -> float | None:
        """Return the seconds to wait after so many attempts; None when they were enough."""
        if attempts > self._retries:
            return None
        from tenacity import RetryCallState

        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = attempts
        return float(self._schedule(state))

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
