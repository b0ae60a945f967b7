"""What a run spends of a budget that other processes share: room has to be granted, too."""

from __future__ import annotations

from pathlib import Path

from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.holding import Holding, Use, caps_of
from llm_datagen.llm.cost.spend import Spend
from llm_datagen.llm.errors import BudgetError
from llm_datagen.llm.grants.client import Answer, GrantsClient
from llm_datagen.llm.grants.messages import BudgetAnswer, BudgetAsk
from llm_datagen.llm.grants.units import ANY, Units
from llm_datagen.runs.usage import PICO, dollars

_LEAVE_SECONDS = 5.0


class SharedSpend(Spend):
    """What one run spends of a shared budget. Any thread and event loop may use it; the client's thread talks for it.

    When all have left, it gives back what is not needed, and waits for that, for 5 s when the service is away. Then the
    run holds what it has not spent until it is resumed.

    Args:
        folder: where its file lies; None keeps it in memory.
        client: talks to the grants service.
        run: the id of the run.

    Raises:
        BudgetError: when the file cannot be used.
    """

    def __init__(self, folder: Path | None, client: GrantsClient, run: str) -> None:
        super().__init__(folder)
        self._client = client
        self._holding = Holding(self._notes, run, self._spent.plus(self._reserved))
        if self._file is not None:
            self._rewrite(self._holding.notes)
        self._notes = self._holding.notes

    # What the client calls, on its thread.

    def due(self, now: float) -> float:
        """Return when there is something to say to the service."""
        with self._lock:
            return self._holding.due(now, self._use())

    def ask(self, now: float) -> BudgetAsk | None:
        """Return what there is to say; None when it cannot be written down."""
        with self._lock:
            ask = self._holding.ask(now, self._use())
            return ask if self._write_notes() else None

    def answered(self, answer: Answer, sent_at: float) -> None:
        """Take what was granted."""
        assert isinstance(answer, BudgetAnswer)
        with self._lock:
            self._holding.answered(answer, self._use(), sent_at)
            self._write_notes()
            if answer.refused:
                self._fail(
                    f"the budget of this run is another one than that of runs that share it: {answer.refused}; give "
                    "all the same, or wait until the others have ended"
                )
            self._wake_waiters()

    def failed(self) -> None:
        """There is no answer."""

    @property
    def elsewhere(self) -> str:
        """What the budget was spent on besides this run, for people; empty when it is not shared."""
        answer = self._holding.answer
        return (
            "" if answer is None or not answer.is_never else shared_words(Amount(*answer.total), Amount(*answer.held))
        )

    def _use(self) -> Use:
        """Return how the run stands. Only calls that a grant would make room for wait for one."""
        first, waiting = None, Amount()
        for waiter in self._waiting:
            waiting = waiting.plus(waiter.need)
        if self._waiting and self._waiting[0].budget.holds(
            self._spent.plus(self._reserved).plus(self._waiting[0].need)
        ):
            first = self._waiting[0].need
        return Use(self._spent, self._reserved, first, waiting)

    def _write_notes(self) -> bool:
        """Write down what has changed of what the run holds; return whether that is so."""
        notes, written = self._holding.notes, self._notes
        try:
            if self._file is None or notes == written:
                pass
            elif written is None or notes.client != written.client:
                self._rewrite(notes)
            elif notes.token:
                self._file.write("ask", notes.number, notes.token, *notes.granted)
            else:
                self._file.write("grant", notes.number, *notes.granted)
        except BudgetError as error:
            self._fail(str(error))
            return False
        self._notes = notes
        return True

    def _has_room(self, need: Amount, budget: Budget) -> bool:
        booked = self._spent.plus(self._reserved).plus(need)
        assert self._notes is not None
        in_file = self._notes.granted.plus(self._notes.inherited)
        allowed = Units(*self._holding.total).at_most(Units(*in_file))
        return super()._has_room(need, budget) and Units(*booked).fits(allowed)

    def _is_never(self) -> bool:
        return self._holding.is_never and not self._calls and not any(map(any, self._held.values()))

    def _wanted(self, need: Amount, budget: Budget) -> None:
        if self._holding.caps not in (ANY, caps_of(budget)):
            raise BudgetError("operators have different budgets, which other processes share: give all the same")
        self._holding.take(budget, need)

    def _waits(self) -> None:
        self._client.wake()

    def _end(self, call: int, spent: Amount) -> bool:
        is_of_job = super()._end(call, spent)
        self._holding.settled()
        if self._waiting:
            self._client.wake()
        return is_of_job

    def _joined_again(self) -> None:
        with self._lock:
            self._holding.come_back()
        self._client.add(self)

    def _left(self) -> None:
        with self._lock:
            self._holding.leave()
        self._client.wait_until(lambda: self._holding.is_settled, _LEAVE_SECONDS, also_away=True)
        if not self._users:
            self._client.remove(self)


def shared_words(total: Amount, held: Amount) -> str:
    """Return what all have spent, for people.

    Args:
        total: that, with what those hold that do not run now.
        held: what these hold unspent.
    """

    def words(amount: Amount) -> str:
        money = f"{dollars(amount.picodollars / PICO)} and " if amount.picodollars else ""
        return f"{money}{amount.tokens:,} tokens"

    rest = f", {words(held)} of it held by processes that do not run now" if any(held) else ""
    return f"all processes together: {words(total)}{rest}"
