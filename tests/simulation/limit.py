"""One limit of calls per minute over all shards: slices, as the service hands them out."""

from __future__ import annotations

from collections import deque

MINUTE = 60.0


class Limit:
    """Grants calls so that each window of a minute and a slice has at most a minute's.

    A grant may be used at any time within a slice of its asking. So what is used in any minute was asked for in a
    window of a minute and a slice, and no clocks have to agree.

    Args:
        calls: per minute.
        slice_seconds: for how long a grant may be used.
    """

    def __init__(self, calls: int, slice_seconds: float) -> None:
        self._calls = calls
        self._window = MINUTE + slice_seconds
        self._grants: deque[tuple[float, int]] = deque()
        self._granted = 0

    def ask(self, now: float, calls: int) -> int:
        """Return how many of the calls that a shard asks for are granted."""
        while self._grants and self._grants[0][0] <= now - self._window:
            self._granted -= self._grants.popleft()[1]
        granted = min(calls, self._calls - self._granted)
        if granted:
            self._grants.append((now, granted))
            self._granted += granted
        return granted


def most_in_a_minute(uses: list[tuple[float, int]]) -> int:
    """Return the most calls of any sliding minute.

    Args:
        uses: when calls were made, and how many.
    """
    most = found = first = 0
    ordered = sorted(uses)
    for time, calls in ordered:
        found += calls
        while ordered[first][0] <= time - MINUTE:
            found -= ordered[first][1]
            first += 1
        most = max(most, found)
    return most
