"""What a run holds of a budget that it shares with others, by a grants service.

It asks for what its waiting calls need, and about what it books in a second. What it asks for, and what it is granted,
is in its file before anything else happens. A call that waits for a grant holds nothing idle meanwhile, so no two runs
wait for what the other one holds.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.spend_file import GrantNotes
from llm_datagen.llm.grants.messages import BudgetAnswer, BudgetAsk
from llm_datagen.llm.grants.units import ANY, NOTHING, Caps, Units

_HEARTBEAT_SECONDS = 1.0
_PREFETCH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Use:
    """How a run stands, when it talks to the service.

    Attributes:
        spent: what it has spent.
        reserved: what its calls in flight may spend.
        first: what the first call that waits can cost; None when none waits for room.
        waiting: what all calls can cost that wait.
    """

    spent: Amount
    reserved: Amount
    first: Amount | None
    waiting: Amount


class Holding:
    """What a run holds. Not thread-safe.

    Args:
        notes: what its file says; None when it has not shared its budget before.
        run: the id of the run.
        spent: what it has spent, with what was in flight when its process died.
    """

    def __init__(self, notes: GrantNotes | None, run: str, spent: Amount) -> None:
        if notes is None:  # the service has to know what was spent without it
            notes = GrantNotes(client_before(run) if any(spent) else _new_client(run), granted=spent)
        elif notes.client.rpartition(":")[0] != run:  # a copy: what it has spent, the run before it holds
            notes = GrantNotes(_new_client(run), inherited=spent)
        self._run = run
        self.notes = notes
        self.caps = ANY
        self.is_leaving = self._has_left = False
        self.is_never = False
        self.answer: BudgetAnswer | None = None
        self._open: BudgetAsk | None = None
        if notes.token:  # its process died before it had the answer
            self._open = self._request(notes.number, notes.token, Units(*notes.granted), spent)
        self._taken = Amount()
        self._told_at = self._again_at = -math.inf

    @property
    def total(self) -> Amount:
        """What may be spent in all."""
        return self.notes.granted.plus(self.notes.inherited)

    @property
    def is_settled(self) -> bool:
        """Whether the service knows that it has ended, and has what was not needed."""
        return self.is_leaving and self._has_left

    def take(self, budget: Budget, need: Amount) -> None:
        """Record that a call was made, or waits, with this budget."""
        self.caps = caps_of(budget)
        self._taken = self._taken.plus(need)

    def due(self, now: float, use: Use) -> float:
        """Return when the next message is to be sent."""
        if self._open is not None:
            return now
        if self.is_leaving:
            return math.inf if self._has_left else now
        if use.first is not None and not self.is_never:
            return max(now, self._again_at)
        if self._is_short(now, use) or (self.answer is not None and self.answer.is_scarce and any(self._idle(use))):
            return self._told_at + _PREFETCH_SECONDS
        return self._told_at + _HEARTBEAT_SECONDS

    def ask(self, now: float, use: Use) -> BudgetAsk:
        """Return the next message. When `notes` have changed by it, they have to be in the file before it is sent."""
        if self._open is not None:
            return self._open
        is_blocked = use.first is not None
        likely, idle = self._likely(now, use), self._idle(use)
        is_scarce = self.answer is not None and self.answer.is_scarce
        booked = Units(*use.spent.plus(use.reserved).minus(self.notes.inherited))
        keep = Units(*self.notes.granted)
        want = least = NOTHING
        if self.is_leaving or is_blocked or is_scarce:
            keep = booked
        elif not idle.fits(likely.plus(likely)):
            keep = booked.plus(idle.at_most(likely.plus(likely)))
        if use.first is not None:
            least = Units(*use.first)
            want = likely.at_least(least)
        elif not self.is_leaving and not is_scarce:
            want = likely.minus(idle).at_least(NOTHING)
        self._told_at, self._taken = now, Amount()
        if keep == Units(*self.notes.granted) and want == NOTHING and not self.is_leaving:
            return self._request(0, "", keep, use.spent)
        number, token = self.notes.number + 1, secrets.token_hex(8)
        self.notes = self.notes._replace(number=number, token=token, granted=Amount(*keep))
        self._open = self._request(number, token, keep, use.spent, want=want, least=least, is_over=self.is_leaving)
        return self._open

    def answered(self, answer: BudgetAnswer, use: Use, now: float) -> None:
        """Take the answer. `notes` have to be in the file before anything is spent by it."""
        self.answer = answer
        said, self._open = self._open, None
        expected = (self.notes.number, answer.token) if said is None else (said.number, said.token)
        if answer.number > expected[0] or (said is not None and (answer.number, answer.token) != expected):
            # The file is older than what the service knows, as after the loss of a machine: what was granted counts as
            # spent, and the run begins anew.
            self.notes = GrantNotes(_new_client(self._run), inherited=use.spent.plus(use.reserved))
            return
        if said is None:  # a heartbeat
            return
        self.notes = self.notes._replace(token="", granted=Amount(*answer.granted))
        self.is_never = answer.is_never
        self._has_left = said.is_over
        self._again_at = -math.inf if answer.again is None else now + answer.again

    def leave(self) -> None:
        """The run has ended: give back what is not needed, with the next message."""
        self.is_leaving, self._has_left = True, False

    def come_back(self) -> None:
        """It goes on."""
        self.is_leaving = False

    def settled(self) -> None:
        """A call has ended: there may be room that there was not."""
        self.is_never = False

    def _idle(self, use: Use) -> Units:
        return Units(*self.total.minus(use.spent).minus(use.reserved)).at_least(NOTHING)

    def _likely(self, now: float, use: Use) -> Units:
        seconds = max(_PREFETCH_SECONDS, min(now - self._told_at, 60.0))
        a_second = Units(math.ceil(self._taken.picodollars / seconds), math.ceil(self._taken.tokens / seconds))
        return a_second.plus(Units(*use.waiting))

    def _is_short(self, now: float, use: Use) -> bool:
        return not self._likely(now, use).fits(self._idle(use))

    def _request(
        self,
        number: int,
        token: str,
        keep: Units,
        spent: Amount,
        *,
        want: Units = NOTHING,
        least: Units = NOTHING,
        is_over: bool = False,
    ) -> BudgetAsk:
        return BudgetAsk(
            client=self.notes.client,
            number=number,
            token=token,
            keep=keep,
            spent=Units(*spent.minus(self.notes.inherited)).at_least(NOTHING),
            want=want,
            least=least,
            caps=self.caps,
            is_over=is_over,
        )


def caps_of(budget: Budget) -> Caps:
    """Return the caps of a budget."""
    return Caps(budget.picodollars, budget.tokens)


def client_before(run: str) -> str:
    """Return what a run is known by which has spent before there was a service, and has not told one yet."""
    return f"{run}:before"


def _new_client(run: str) -> str:
    return f"{run}:{secrets.token_hex(8)}"
