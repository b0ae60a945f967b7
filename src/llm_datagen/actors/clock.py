"""Time, as something that can be handed in: timers and timeouts go through a `Clock`."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can wait on a condition."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""

    def wait_until(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait on `condition`, which the caller holds, until notified or until `deadline` (None: no end)."""


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

    def wait_until(self, condition: threading.Condition, deadline: float | None) -> None:
        """Wait on `condition`, which the caller holds, until notified or until `deadline`."""
        condition.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
