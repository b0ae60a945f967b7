"""What the service knows of a budget: who holds how much of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.llm.grants.line import Line
from llm_datagen.llm.grants.messages import BudgetAnswer, BudgetAsk
from llm_datagen.llm.grants.units import ANY, NOTHING, Caps, Units
from llm_datagen.runs.usage import PICO

LIVE_SECONDS = 15.0
"""What a run holds that was not heard of for so long is not waited for."""

_AGAIN = 0.25
_LOOK_SECONDS = 0.25
_PROCESSES_PER_SECOND = 64  # that ask again while they wait
_SLICES = 2  # of what is left, for each run that is going on


@dataclass(slots=True)
class Holder:
    """A run, or a shard, that spends.

    Attributes:
        number: of the latest request that counted.
        token: of that request.
        granted: what it holds, with what it has spent of it.
        spent: what it has spent, as far as is known.
        heard: when it was last heard of.
        is_over: whether it has ended.
        caps: as it was given them.
    """

    heard: float
    number: int = 0
    token: str = ""
    granted: Units = NOTHING
    spent: Units = NOTHING
    is_over: bool = False
    caps: Caps = ANY

    def is_live(self, now: float) -> bool:
        """Return whether it is going on, as far as is known."""
        return not self.is_over and now <= self.heard + LIVE_SECONDS


class BudgetAccount:
    """The account of one budget: nothing is granted by which all would hold more than the caps. Not thread-safe."""

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}
        self._line = Line()
        self._granted = NOTHING
        self._caps = ANY
        self._live = 1
        self._looked_at = -math.inf

    def exchange(self, ask: BudgetAsk, now: float) -> tuple[BudgetAnswer, bool]:
        """Take what a run says, and grant it what there is.

        Args:
            ask: what it says.
            now: seconds, never backwards.

        Returns:
            The answer, and whether the file has to know something first.
        """
        holder = self._holders.get(ask.client)
        if holder is None:  # what it says to have, it has from an account that is lost
            holder = self._holders[ask.client] = Holder(now, granted=ask.keep)
            self._granted = self._granted.plus(ask.keep)
        holder.heard = now
        if ask.number <= holder.number and (ask.number, ask.token) != (0, ""):  # repeated, or late
            return self._answer(ask, holder, now), False
        holder.spent = holder.spent.at_least(ask.spent)
        refused = self._refusal(ask, now)
        holder.caps = ask.caps
        holder.is_over = ask.is_over
        if ask.is_over:
            self._line.leave(ask.client)
        if ask.number == 0:
            return self._answer(ask, holder, now, refused=refused), False
        before = holder.granted
        holder.number, holder.token = ask.number, ask.token
        # What calls have cost beyond what they were to cost at most is gone, too: the others have less.
        holder.granted = ask.keep.at_most(before).at_least(holder.spent)
        self._granted = self._granted.plus(holder.granted).minus(before)
        again, is_never = None, False
        if not refused:
            again, is_never = self._grant(holder, ask, now)
        return self._answer(ask, holder, now, again=again, is_never=is_never, refused=refused), True

    def state(self, client: str) -> list[Any]:
        """Return what the file has to know of a run."""
        holder = self._holders[client]
        return [holder.number, holder.token, holder.granted, holder.spent]

    def restore(self, client: str, state: list[Any], now: float) -> None:
        """Take what the file says of a run; of each, in order.

        Args:
            client: stands for the run.
            state: as `state` returned it.
            now: the moment.
        """
        number, token, granted, spent = state
        before = self._holders.get(client)
        holder = self._holders[client] = Holder(now, number, token, Units(*granted), Units(*spent))
        self._granted = self._granted.plus(holder.granted).minus(NOTHING if before is None else before.granted)

    def learn(self, known: Mapping[str, tuple[Units, Units]], now: float) -> None:
        """Take what runs hold and have spent, of which nobody has told before; of others, nothing changes.

        Args:
            known: both, by what each run is known by.
            now: the moment.
        """
        for client, (granted, spent) in known.items():
            if client not in self._holders:
                self.restore(client, [0, "", granted, spent], now)

    @property
    def clients(self) -> list[str]:
        """The runs that it knows."""
        return list(self._holders)

    def _refusal(self, ask: BudgetAsk, now: float) -> str:
        """Return why a run with such caps gets nothing: one that is going on has others."""
        if ask.caps in (ANY, self._caps):
            return ""
        for client, other in self._holders.items():
            if client != ask.client and other.is_live(now) and other.caps not in (ask.caps, ANY):
                return f"{client} has {_words(other.caps)}, and {ask.client} has {_words(ask.caps)}"
        self._caps = ask.caps
        return ""

    def _grant(self, holder: Holder, ask: BudgetAsk, now: float) -> tuple[float | None, bool]:
        """Grant what there is; return when more may be had, or None, and whether there never will be enough."""
        ahead = self._line.ahead(ask.client, now)
        room = ask.caps.room(self._granted.plus(ahead)).at_least(NOTHING)
        if not ask.least.fits(room):
            self._line.leave(ask.client)
            if not ask.least.fits(ask.caps.room(self._gone(now, ask.client).plus(holder.granted))):
                return None, True
            again = max(_AGAIN, len(self._line) / _PROCESSES_PER_SECOND)
            self._line.wait(ask.client, ask.least, now + again)
            return again, False
        self._line.leave(ask.client)
        part = room.parts(_SLICES * self._count_live(now)).at_least(ask.least)
        granted = ask.want.at_least(ask.least).at_most(part)
        holder.granted = holder.granted.plus(granted)
        self._granted = self._granted.plus(granted)
        return None, False

    def _count_live(self, now: float) -> int:
        """Return how many runs go on; counted not for each message."""
        if now >= self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._live = sum(each.is_live(now) for each in self._holders.values())
        return max(1, self._live)

    def _gone(self, now: float, without: str = "") -> Units:
        """Return what does not come back as long as nobody is resumed."""
        total = NOTHING
        for client, holder in self._holders.items():
            if client != without:
                total = total.plus(holder.spent if holder.is_live(now) else holder.granted)
        return total

    def _answer(
        self,
        ask: BudgetAsk,
        holder: Holder,
        now: float,
        *,
        again: float | None = None,
        is_never: bool = False,
        refused: str = "",
    ) -> BudgetAnswer:
        held = total = NOTHING
        if is_never:  # of interest then alone
            total = self._gone(now)
            for each in self._holders.values():
                if not each.is_live(now):
                    held = held.plus(each.granted.minus(each.spent).at_least(NOTHING))
        self._line.ahead("", now)
        return BudgetAnswer(
            client=ask.client,
            number=holder.number,
            token=holder.token,
            granted=holder.granted,
            again=again,
            is_never=is_never,
            is_scarce=len(self._line) > 0,
            held=held,
            total=total,
            refused=refused,
        )


def _words(caps: Caps) -> str:
    money = [] if caps.main is None else [f"${caps.main / PICO:,.6g}"]
    return " and ".join(money + ([] if caps.tokens is None else [f"{caps.tokens:,} tokens"])) or "no cap"
