"""The stall watch: notices that nothing moves in a node, though there is work."""

from __future__ import annotations

from llm_datagen.actors.clock import Clock


class StallWatchdog:
    """Knows since when nothing has moved, and what was said of it. Used by the node's own thread.

    Args:
        clock: what it goes by.
        patience: seconds without movement that are a stall.
    """

    def __init__(self, clock: Clock, patience: float) -> None:
        self._clock = clock
        self._patience = patience
        self._moved = clock.monotonic()
        self._is_stalled = False

    def moved(self) -> None:
        """Take note that something has moved."""
        self._moved = self._clock.monotonic()

    @property
    def still(self) -> float:
        """Seconds without movement."""
        return self._clock.monotonic() - self._moved

    def is_over(self) -> bool:
        """Return whether something moves again that was stalled; once."""
        was_stalled = self._is_stalled and self.still < self._patience
        if was_stalled:
            self._is_stalled = False
        return was_stalled

    def has_begun(self) -> bool:
        """Return whether nothing has moved for too long; once a stall. To be asked when there is work."""
        is_new = not self._is_stalled and self.still >= self._patience
        if is_new:
            self._is_stalled = True
        return is_new
