"""The simulated clock: what happens next, and when."""

from __future__ import annotations

import heapq
from collections.abc import Callable


class Agenda:
    """Events in the order of their times; those of one time in the order in which they were noted.

    Attributes:
        now: the simulated time, in seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._noted = 0

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        """Note what happens after so many seconds."""
        self._noted += 1
        heapq.heappush(self._events, (self.now + seconds, self._noted, event))

    def run(self, is_over: Callable[[], bool]) -> None:
        """Let everything happen until it is over.

        Raises:
            AssertionError: when nothing is left that could happen, and it is not over.
        """
        while not is_over():
            assert self._events, f"nothing happens any more after {self.now:.0f} s"
            self.now, _, event = heapq.heappop(self._events)
            event()
