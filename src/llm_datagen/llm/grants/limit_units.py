"""What a process holds of a limit that it shares with others."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from llm_datagen.llm.grants.units import NOTHING, SLICE_SECONDS, Units

if TYPE_CHECKING:
    from llm_datagen.llm.grants.messages import LimitAnswer

_RECENT_SECONDS = 1.0
_REPORT_SECONDS = 0.5
"""When the service hears of calls that have ended, and that the process is there: the later, the longer they count."""


class Said(NamedTuple):
    """What a process says of what it holds; see `LimitAsk`."""

    number: int
    known: Units
    ended: Units
    freed: Units
    want: Units
    least: Units


class LimitUnits:
    """Units of a limit. Not thread-safe.

    What is unused `slice_seconds` after the last message was sent is given back, whatever becomes of the answer.

    Args:
        slice_seconds: as `SLICE_SECONDS` of the service.
    """

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        self._slice = slice_seconds
        self._idle = self._known = self._ended = self._freed = NOTHING
        self._calls = 0  # in flight
        self._number = 0
        self._idle_until = -math.inf
        self._told_at = -math.inf
        self._again_at = -math.inf
        self._has_news = False
        self._recent: deque[tuple[float, int]] = deque()
        self._recent_tokens = 0

    @property
    def is_settled(self) -> bool:
        """Whether the service knows all, and nothing is held."""
        return not (self._has_news or self._calls or any(self._idle))

    def has(self, tokens: int, now: float) -> bool:
        """Return whether a call of so many tokens may be made now."""
        self._expire(now)
        return Units(1, tokens).fits(self._idle)

    def may_get(self, now: float) -> bool:
        """Return whether it is worth asking: nothing was refused lately."""
        return now >= self._again_at

    def take(self, tokens: int, now: float) -> None:
        """Use units for a call that is sent now. To be called when `has` says so."""
        self._idle = self._idle.minus(Units(1, tokens))
        self._calls += 1
        self._recent.append((now, tokens))
        self._recent_tokens += tokens

    def end(self, reserved: int, used: int) -> None:
        """A call has ended.

        Args:
            reserved: the tokens that were taken for it.
            used: the tokens that it used.
        """
        self._calls -= 1
        self._ended = self._ended.plus(Units(1, used))
        self._freed = self._freed.plus(Units(0, reserved - used))
        self._has_news = True

    def due(self, now: float, first: Units) -> float:
        """Return when the next message is to be sent; infinity: not until something happens.

        Args:
            now: the moment.
            first: what the first call needs that waits; nothing when none does.
        """
        self._expire(now)
        if not first.fits(self._idle):
            return max(now, self._again_at)
        return math.inf if self.is_settled else self._told_at + _REPORT_SECONDS

    def ask(self, *, waiting: Units, first: Units, now: float) -> Said:
        """Return what the next message says, which is sent now.

        Args:
            waiting: what all calls need that wait.
            first: what the first of them needs.
            now: the moment.
        """
        self._expire(now)
        self._forget(now)
        likely = waiting.plus(Units(len(self._recent), self._recent_tokens))
        self._free(self._idle.minus(likely).at_least(NOTHING))
        self._number += 1
        self._has_news, self._told_at = False, now
        return Said(
            number=self._number,
            known=self._known,
            ended=self._ended,
            freed=self._freed,
            want=likely.minus(self._idle).at_least(NOTHING),
            least=NOTHING if first.fits(self._idle) else first.minus(self._idle).at_least(NOTHING),
        )

    def answered(self, answer: LimitAnswer, sent_at: float, now: float) -> None:
        """Take what was granted.

        Args:
            answer: of the service.
            sent_at: when the message was sent that it answers.
            now: the moment.
        """
        self._idle = self._idle.plus(answer.granted.minus(self._known))
        self._known = answer.granted
        self._idle_until = sent_at + self._slice
        self._again_at = now if answer.again is None else now + answer.again
        self._expire(now)

    def failed(self) -> None:
        """The message that was sent last was not answered: perhaps nobody has heard of it."""
        self._has_news = True

    def give_back(self) -> None:
        """Give back what is unused, with the next message."""
        self._free(self._idle)

    def _expire(self, now: float) -> None:
        if now >= self._idle_until:
            self._free(self._idle)

    def _free(self, units: Units) -> None:
        if units != NOTHING:
            self._idle = self._idle.minus(units)
            self._freed = self._freed.plus(units)
            self._has_news = True

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] <= now - _RECENT_SECONDS:
            self._recent_tokens -= self._recent.popleft()[1]
