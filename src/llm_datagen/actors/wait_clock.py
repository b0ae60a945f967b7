"""A clock of a limit: seconds in which rows could have begun, and the limit did not let them."""

from __future__ import annotations

from llm_datagen.actors.clock import Clock


class WaitClock:
    """Sums the time in which something waits. Used by one thread.

    Args:
        clock: what time it is.

    Attributes:
        waited: the seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self.waited = 0.0

    def note(self, waits: bool) -> None:
        """Note whether something waits from now on."""
        if not waits and self._since is None:
            return
        now = self._clock.monotonic()
        if self._since is not None:
            self.waited += now - self._since
        self._since = now if waits else None
