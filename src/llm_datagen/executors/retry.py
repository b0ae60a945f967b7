"""Retries: when a call that raised is made again, and after which pause."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from llm_datagen.config import FailurePolicy

MAX_WAIT_SECONDS = 60.0
"""The longest pause between two tries."""

_SLICE_SECONDS = 0.05


def full_jitter(first: float, tries: int) -> float:
    """Return the seconds to wait after so many tries: random, up to `first` doubled with each try, a minute at most.

    The formula is "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter".
    """
    return random.uniform(0.0, min(MAX_WAIT_SECONDS, first * 2.0 ** min(tries - 1, 64)))


class Retries:
    """When to try again.

    Args:
        policy: how often, and after how long.
    """

    def __init__(self, policy: FailurePolicy) -> None:
        self._policy = policy

    def pause_after(self, attempts: int) -> float | None:
        """Return the seconds to wait after so many attempts; None when they were enough."""
        return None if attempts > self._policy.retries else full_jitter(self._policy.retry_wait, attempts)

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
