"""Backoff: how long to wait before something that failed is tried again."""

from __future__ import annotations

from typing import Any

MAX_WAIT_SECONDS = 60.0


class Backoff:
    """Pauses between tries: random, up to `first` seconds before the second one, doubled with each, a minute at most.

    The schedule is tenacity's, which is imported when there is one. Any thread may use it.

    Args:
        first: seconds.
    """

    def __init__(self, first: float) -> None:
        from tenacity import wait_random_exponential

        self._schedule: Any = wait_random_exponential(multiplier=first, max=MAX_WAIT_SECONDS)

    def after(self, tries: int) -> float:
        """Return the seconds to wait after so many tries."""
        from tenacity import RetryCallState

        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = tries
        return float(self._schedule(state))
