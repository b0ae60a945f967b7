"""A worker, and how far the shard is that it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Shard:
    """A range that a worker runs.

    Attributes:
        number: of the range in the plan.
        last: the row behind its last one; a split makes it smaller.
        began: when its first call was made.
        first: its row then.
        row: the first row that was not done at `since`.
        since: the time from which it goes on at full speed, up to the row `stop`.
        stop: how far it may go: to `last`, or as far as calls were granted.
        speed: rows per second.
    """

    number: int
    last: int
    began: float
    first: int
    row: int
    since: float
    stop: int
    speed: float

    def done(self, now: float) -> int:
        """Return the first row that is not done."""
        return min(self.stop, self.row + math.floor(self.speed * (now - self.since) + 1e-6))

    def committed(self, now: float, flush_seconds: float) -> int:
        """Return the first row that is not committed: what was done at its last flush is."""
        flushed = self.began + math.floor((now - self.began) / flush_seconds) * flush_seconds
        return self.done(flushed) if flushed >= self.since else self.row

    def go_on(self, now: float, stop: int) -> None:
        """Go on from here up to another row."""
        self.row, self.since, self.stop = self.done(now), now, stop

    @property
    def seconds_to_stop(self) -> float:
        """How long after `since` it is at `stop`."""
        return (self.stop - self.row) / self.speed

    def measured_speed(self, now: float) -> float | None:
        """Return its rows per second since it began; None in its first second."""
        return (self.done(now) - self.first) / (now - self.began) if now - self.began >= 1 else None


@dataclass(slots=True, eq=False)
class Worker:
    """A process that runs one shard at a time.

    Attributes:
        node: the machine that it is on.
        speed: rows per second.
        number: the range that it was given; None: it has none.
        shard: the range, from its first call on.
        turn: the number of what it waits for; an event of an earlier turn is void.
        is_dead: whether its node has died.
    """

    node: int
    speed: float
    number: int | None = None
    shard: Shard | None = None
    turn: int = 0
    is_dead: bool = False
