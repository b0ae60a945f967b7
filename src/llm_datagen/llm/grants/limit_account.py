"""What the service knows of a limit: who holds how much of it, and what was used within the last minute.

A unit (a call, a token) counts from the moment it is granted until a minute after the service has heard that its call
has ended, or that it was given back. The endpoint books a call at some moment between the two. So every minute of the
endpoint's own has at most what counts here when its last call was granted: the rule of `SlidingWindow`, over processes.

No clocks of hosts are compared. A process that is silent may be dead: what it holds unused it may not use any more,
`SLICE_SECONDS` after it has sent its last message (by its own clock, and that was before the message came); and its
calls in flight end within `call_seconds`. So after both, what it holds counts for a last minute.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from llm_datagen.llm.grants.line import Line
from llm_datagen.llm.grants.messages import LimitAnswer, LimitAsk
from llm_datagen.llm.grants.units import ANY, NOTHING, SLICE_SECONDS, Caps, Units

_MIN_AGAIN = 0.05
_MAX_AGAIN = 0.5
_TOGETHER_SECONDS = 0.05  # what is used so soon after another counts with it, and as long
_LOOK_SECONDS = 0.25
_PROCESSES_PER_SECOND = 64  # that ask again while they wait


@dataclass(slots=True)
class Holder:
    """A process that uses a limit.

    Attributes:
        caps: calls and tokens within a minute, as it was given them.
        call_seconds: the longest that a call of it may take.
        number: of its latest message.
        granted: what it was granted.
        ended: calls of it that have ended, and what they used.
        freed: what it has given back, unused.
        heard: when it was last heard of.
        is_silent: whether what it held counts as used, since nothing was heard of it for too long.
    """

    caps: Caps
    call_seconds: float
    heard: float
    number: int = -1
    granted: Units = NOTHING
    ended: Units = NOTHING
    freed: Units = NOTHING
    is_silent: bool = False

    @property
    def held(self) -> Units:
        """What it may use, or uses."""
        return self.granted.minus(self.ended).minus(self.freed)

    @property
    def counts(self) -> Units:
        """What of that counts by itself: nothing when it counts as used."""
        return NOTHING if self.is_silent else self.held


class LimitAccount:
    """The account of one limit. Not thread-safe.

    Args:
        window: seconds that a call counts after its end.
        slice_seconds: as `SLICE_SECONDS`.
    """

    def __init__(self, *, window: float, slice_seconds: float = SLICE_SECONDS) -> None:
        self._window = window
        self._slice = slice_seconds
        self._holders: dict[str, Holder] = {}
        self._used: deque[tuple[float, Units]] = deque()  # until when it counts; in order
        self._used_now = self._held = NOTHING
        self._caps = ANY
        self._looked_at = -math.inf
        self._silent: list[str] = []
        self._line = Line()
        self._opens_at = -math.inf

    def rest(self, now: float, seconds: float | None = None) -> None:
        """Grant nothing for a minute, or some seconds: what was granted last may be unknown."""
        self._opens_at = now + (self._window if seconds is None else seconds)

    def rests(self, now: float) -> float:
        """Return for how many seconds nothing is granted."""
        return max(0.0, self._opens_at - now)

    def exchange(self, ask: LimitAsk, now: float) -> LimitAnswer:
        """Take what a process says, and grant it what there is.

        Args:
            ask: what it says.
            now: seconds, never backwards.
        """
        holder = self._holders.get(ask.holder)
        if holder is None:  # what it says to have, it has from an account that is lost
            holder = self._holders[ask.holder] = Holder(ask.caps, ask.call_seconds, now, granted=ask.known)
            self._held = self._held.plus(holder.counts)
            self._caps = self._caps.lowest(ask.caps)
        if ask.number <= holder.number:
            return LimitAnswer(scope=ask.scope, granted=holder.granted)
        self._use(ask.ended.minus(holder.ended), now)
        before = holder.counts
        holder.granted = holder.granted.at_least(ask.known)
        holder.number, holder.ended, holder.freed = ask.number, ask.ended, ask.freed
        holder.caps, holder.call_seconds = ask.caps, ask.call_seconds
        holder.heard, holder.is_silent = now, False
        self._held = self._held.plus(holder.counts).minus(before)
        self._look_around(now)
        again = self._grant(holder, ask, now)
        return LimitAnswer(scope=ask.scope, granted=holder.granted, again=again)

    def counted(self, now: float) -> Units:
        """Return what counts: what is held, and what was used within the last minute."""
        while self._used and self._used[0][0] <= now:
            self._used_now = self._used_now.minus(self._used.popleft()[1])
        return self._used_now.plus(self._held)

    def silenced(self) -> list[str]:
        """Return the processes that have been found silent since this was called last: the file has to know."""
        silent, self._silent = self._silent, []
        return silent

    def state(self, name: str) -> list[Any]:
        """Return what the file has to know of a process."""
        holder = self._holders[name]
        amounts = holder.granted, holder.ended, holder.freed
        return [holder.caps, holder.call_seconds, holder.number, *amounts, holder.is_silent]

    def restore(self, name: str, state: list[Any], then: float, now: float) -> None:
        """Take what the file says of a process; of each, in order.

        Args:
            name: stands for the process.
            state: as `state` returned it.
            then: when that was, by the clock of `now`.
            now: the moment.
        """
        before = self._holders.get(name)
        self.restore_holder(name, state, now)
        holder = self._holders[name]
        self._use(holder.ended.minus(NOTHING if before is None else before.ended), then)
        if holder.is_silent and (before is None or not before.is_silent):
            self._use(holder.held, then)

    def restore_holder(self, name: str, state: list[Any], now: float) -> None:
        """Take what the file says of a process, where it says by itself what was used."""
        caps, call_seconds, number, granted, ended, freed, is_silent = state
        amounts = Units(*granted), Units(*ended), Units(*freed)
        before = self._holders.get(name)
        holder = self._holders[name] = Holder(Caps(*caps), call_seconds, now, number, *amounts, is_silent)
        self._held = self._held.plus(holder.counts).minus(NOTHING if before is None else before.counts)
        self._looked_at = -math.inf

    def used(self, now: float) -> list[tuple[float, Units]]:
        """Return what was used within the last minute: for how many seconds it counts on, and how much it is."""
        return [(until - now, used) for until, used in self._used if until > now]

    def restore_used(self, used: list[Any], now: float) -> None:
        """Take what `used` returned, before anything else."""
        for seconds, amount in used:
            self._use(Units(*amount), now + seconds - self._window)

    @property
    def holders(self) -> list[str]:
        """The processes that it knows."""
        return list(self._holders)

    def _use(self, used: Units, now: float) -> None:
        if used == NOTHING:
            return
        self._used_now = self._used_now.plus(used)
        until = now + self._window
        if self._used and until - self._used[-1][0] < _TOGETHER_SECONDS:
            used = used.plus(self._used.pop()[1])
        self._used.append((until, used))

    def _look_around(self, now: float) -> None:
        """Look for processes that are silent, and for the lowest caps of the others; not for each message."""
        if now < self._looked_at + _LOOK_SECONDS:
            return
        self._looked_at, self._caps = now, ANY
        for name, holder in self._holders.items():
            if not holder.is_silent and holder.heard + self._slice + holder.call_seconds < now:
                self._use(holder.held, now)
                self._held = self._held.minus(holder.held)
                holder.is_silent = True
                self._silent.append(name)
            if not holder.is_silent:
                self._caps = self._caps.lowest(holder.caps)

    def _grant(self, holder: Holder, ask: LimitAsk, now: float) -> float | None:
        """Grant what there is; return when more may be had, or None."""
        unknown = holder.granted.minus(ask.known)  # the answer that granted it was lost
        want, least = ask.want.minus(unknown).at_least(NOTHING), ask.least.minus(unknown).at_least(NOTHING)
        caps = self._caps.lowest(ask.caps)
        least = least.at_most(caps.room(NOTHING))  # a call of more than all may be made when nothing else counts
        ahead = self._line.ahead(ask.holder, now)
        room = caps.room(self.counted(now).plus(ahead)).at_least(NOTHING)
        is_open = now >= self._opens_at
        if not least.fits(room) or not is_open:
            again = self._again(caps, least.plus(ahead), now) if is_open else _MAX_AGAIN
            self._line.wait(ask.holder, least, now + again)
            return again
        self._line.leave(ask.holder)
        if want == least == NOTHING:
            return None
        part = room.parts(max(1, len(self._line) + 1)).at_least(least)
        granted = want.at_least(least).at_most(part)
        holder.granted = holder.granted.plus(granted)
        self._held = self._held.plus(granted)
        return None if want.fits(granted) else _MIN_AGAIN

    def _again(self, caps: Caps, need: Units, now: float) -> float:
        """Return in how many seconds there may be room for so much: when what was used counts no more."""
        most = max(_MAX_AGAIN, len(self._line) / _PROCESSES_PER_SECOND)
        room = caps.room(self.counted(now))
        for until, used in self._used:
            room = room.plus(used)
            if need.fits(room):
                return min(most, max(_MIN_AGAIN, until - now))
        return most
