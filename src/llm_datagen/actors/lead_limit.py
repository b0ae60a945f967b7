"""The limit of a node's lead: how many rows it may be ahead of the nodes that read from it (`max_lead`)."""

from __future__ import annotations

import sys

from llm_datagen.actors.clock import Clock
from llm_datagen.actors.wait_clock import WaitClock
from llm_datagen.messages.lead import LeadMoved, LimitLead, Starving


class LeadLimit:
    """Says how many rows may be handed out now. Used by the node's own thread.

    A node is ahead by the rows that are committed and that a reader is not done with, and by its rows in flight. A
    reader that needs more rows for a call than the limit has as many. One that cannot go on without more, whatever it
    waits for, gets them one call at a time: so nodes never wait for each other in a circle.

    Args:
        clock: what time it is.
        max_lead: rows; None for no limit.
        done: rows of the source that are done.
        rows_out: rows that were written.
    """

    def __init__(self, clock: Clock, max_lead: int | None, *, done: int, rows_out: int) -> None:
        self._max_lead = max_lead
        self._handed_out = self._done = done
        self._rows_out = rows_out
        self._readers: dict[str, int] = {}
        self._starving: dict[str, int] = {}  # readers, and the rows that they had when they said so
        self._clock = WaitClock(clock)

    @property
    def waited(self) -> float:
        """Seconds in which rows could have begun, and it did not let them."""
        return self._clock.waited

    def hear(self, message: LimitLead | LeadMoved | Starving) -> None:
        """Take into account that there is a reader, what was committed, or that a reader has nothing to do."""
        match message:
            case LimitLead() if self._max_lead is not None:
                self._max_lead = max(self._max_lead, message.step)
                self._readers[message.reader] = message.done
            case LeadMoved(reader=""):  # the node's own writer
                self._done, self._rows_out = message.done, message.rows_out
            case LeadMoved():
                self._readers[message.reader] = message.done
            case Starving():
                self._starving[message.reader] = self._rows_out if message.rows is None else message.rows

    def rows(self) -> int:
        """Return how many rows may be handed out; 0 for none. A whole batch may be, when one row may."""
        if self._max_lead is None or not self._readers:
            return sys.maxsize
        in_flight = self._handed_out - self._done
        ahead = self._rows_out - min(self._readers.values()) + in_flight
        if ahead < self._max_lead:
            return self._max_lead - ahead
        is_needed = any(rows >= self._rows_out for rows in self._starving.values())
        return 1 if is_needed and not in_flight else 0

    def spend(self, rows: int) -> None:
        """Count rows that were handed out."""
        self._handed_out += rows

    def give_back(self, rows: int) -> None:
        """Count rows that were taken back, and will be handed out again."""
        self._handed_out -= rows

    def holds_back(self, rows: int) -> None:
        """Note that from now on so many rows could begin if it let them; 0: it is not what they wait for."""
        self._clock.note(rows > 0)
