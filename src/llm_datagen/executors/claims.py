"""Claims: how a worker and the node agree which rows of a task were begun, without a lock per row."""

from __future__ import annotations

import sys
from operator import length_hint

_CAN_BE_CUT = bool(getattr(sys, "_is_gil_enabled", lambda: True)())


class Claims:
    """Which rows of a block were begun. The worker claims them; the node may take away those that are left.

    Both take from one iterator, in a single call of C code each, which no other thread can interrupt: a row has one
    taker, without a lock for each row. (Where Python runs without its global lock, nothing is taken away.)

    Args:
        rows: rows of the block.
    """

    def __init__(self, rows: int) -> None:
        self.numbers = iter(range(rows))

    @property
    def left(self) -> int:
        """Rows that were not begun."""
        return length_hint(self.numbers)

    def take_rest(self) -> int | None:
        """Take all rows that were not begun; return the number of the first, None when there is none. Any thread."""
        rest = list(self.numbers) if _CAN_BE_CUT else ()
        return rest[0] if rest else None


class ClaimedTasks:
    """What an executor whose workers claim their rows has in common: the claims of the tasks that it was given."""

    def __init__(self) -> None:
        self._claims: dict[int, Claims] = {}

    def left(self, task: int) -> int:
        """Return how many rows of a task were not begun; 0 when it has ended. Any thread."""
        claims = self._claims.get(task)
        return 0 if claims is None else claims.left

    def cut(self, task: int) -> int | None:
        """Take the rows that were not begun away from a task; return how many it keeps, None for all. Any thread."""
        claims = self._claims.get(task)
        return None if claims is None else claims.take_rest()

    def _claim(self, task: int, rows: int) -> Claims:
        """Return the claims of a task that begins."""
        claims = self._claims[task] = Claims(rows)
        return claims

    def _end_claims(self, task: int) -> None:
        """Forget the claims of a task: all its rows were taken."""
        del self._claims[task]
