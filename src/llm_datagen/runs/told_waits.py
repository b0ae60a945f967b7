"""What takes long before a run begins is told while it lasts: no display shows the run yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SECONDS_BEFORE_FIRST_LINE = 2.0
SECONDS_BETWEEN_LINES = 10.0

_tell: ContextVar[Callable[[str], None] | None] = ContextVar("tell", default=None)


@contextmanager
def told_to(tell: Callable[[str], None]) -> Iterator[None]:
    """Have `tell` take the lines, as long as the block lasts."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)


class ToldWait:
    """Something that may take long.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + SECONDS_BEFORE_FIRST_LINE

    def goes_on(self, text: str) -> None:
        """Tell what is done, and how far it is, if the last line is old enough, and somebody wants to know."""
        tell, now = _tell.get(), self._clock()
        if tell is not None and now >= self._next:
            self._next = now + SECONDS_BETWEEN_LINES
            tell(text)
