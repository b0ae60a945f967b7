"""Time that moves only when a test moves it."""

from __future__ import annotations

import threading


class ManualClock:
    """A clock that moves only when told to: for tests without sleeps.

    Waiting threads are woken by `advance`, and check the time again.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._waiting: list[threading.Condition] = []

    def monotonic(self) -> float:
        """Return the time that was set."""
        return self._now

    def wait_until(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait until `condition` is notified or the clock is advanced, whatever comes first."""
        with self._lock:
            if deadline is not None and deadline <= self._now:
                return
            self._waiting.append(condition)
        # `advance` needs the condition, which is held until wait() lets go of it: no wake-up is lost.
        try:
            condition.wait()
        finally:
            with self._lock:
                self._waiting.remove(condition)

    def advance(self, seconds: float) -> None:
        """Move the clock on and wake everyone who waits on it."""
        with self._lock:
            self._now += seconds
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()
