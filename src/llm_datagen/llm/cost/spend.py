"""What a run with a budget spends: what was spent, and what calls in flight may yet spend.

A call is reserved **before** it is sent, with the most that it can cost, and settled when it is known what it did cost.
A reservation that was never settled, because its process died, counts as spent in full. So what is spent is never more
than what the budget holds, whatever happens.

Rows in jobs of batch APIs are counted by the job logs of their nodes, which lie beside the file: what is in one of them
is not in the other. A job log has what a row cost in the transaction that has its answer, so it counts once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.spend_file import GrantNotes, SpendFile, Spending, money_of_jobs
from llm_datagen.llm.errors import BudgetError

Wait = Callable[[asyncio.Future[None]], Awaitable[object]]
"""Waits for a future."""


async def _wait(decided: asyncio.Future[None]) -> None:
    await decided


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits until calls in flight make room."""

    need: Amount
    budget: Budget
    loop: asyncio.AbstractEventLoop
    decided: asyncio.Future[None]
    is_of_job: bool
    call: int | None = None
    error: BudgetError | None = None


class Spend:
    """What one run spends. Any thread and event loop may use it.

    Get it by `join`, so that all nodes of a run have the same one.

    Args:
        folder: where its file lies; None keeps it in memory.

    Raises:
        BudgetError: when the file cannot be used.
    """

    _joined: ClassVar[dict[Any, Spend]] = {}
    _joining: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, folder: Path | None) -> None:
        self._file = None if folder is None else SpendFile(folder)
        self._spent = self._lost = self._untold = self._reserved = Amount()
        self._calls: dict[int, Amount] = {}
        self._calls_of_jobs: set[int] = set()
        self._spent_on_jobs = self._lost_on_jobs = self._untold_on_jobs = Amount()
        self._held: dict[Path, Amount] = {}  # by job logs that are not open yet
        self._next = 0
        self._waiting: deque[_Waiter] = deque()
        self._lock = threading.Lock()
        self._users = 0
        self._key: Any = None
        self._notes: GrantNotes | None = None  # in the file
        if self._file is not None:
            # What was in flight when its process died is lost.
            spent, lost, in_flight, self._untold = self._file.read()
            self._spent, self._lost = spent.plus(in_flight), lost.plus(in_flight)
            self._notes = self._file.grants
            self._rewrite(self._notes)
            self._count_jobs(self._file.path.parent)

    @classmethod
    def join(cls, key: Any, folder: Path | None, make: Callable[[], Spend] | None = None) -> Spend:
        """Return the one of `key`, opened if it is not open yet; `leave` it in the end.

        Args:
            key: what stands for the run in this process.
            folder: where its file lies; None keeps it in memory.
            make: makes it, when it is another kind than this.

        Raises:
            BudgetError: when the file cannot be used.
        """
        with cls._joining:
            spend = cls._joined.get(key)
            if spend is None:
                spend = cls._joined[key] = cls(folder) if make is None else make()
                spend._key = key
            spend._users += 1
            spend._joined_again()
            return spend

    def leave(self) -> None:
        """Leave one that was joined; the last one closes the file. May block for some seconds, where it is shared."""
        with self._joining:
            self._users -= 1
            if self._users:
                return
        self._left()
        with self._joining:
            if not self._users:
                self._joined.pop(self._key, None)
                if self._file is not None:
                    with self._lock:
                        self._file.close()

    def _count_jobs(self, folder: Path) -> None:
        for path, (spent, lost, held, untold) in money_of_jobs(folder).items():
            self._spent, self._lost = self._spent.plus(spent), self._lost.plus(lost)
            self._spent_on_jobs, self._lost_on_jobs = self._spent_on_jobs.plus(spent), self._lost_on_jobs.plus(lost)
            self._untold, self._untold_on_jobs = self._untold.plus(untold), self._untold_on_jobs.plus(untold)
            self._held[path], self._reserved = held, self._reserved.plus(held)

    def adopt(self, job_log: Path, needs: Sequence[Amount]) -> list[int]:
        """Return the numbers of calls for rows that are in jobs already, from the time before; for `settle` or `lose`.

        Args:
            job_log: the path of their job log, which is open now.
            needs: the most that each of them can cost.
        """
        with self._lock:
            self._reserved = self._reserved.minus(self._held.pop(job_log, Amount()))
            return [self._grant(need, is_of_job=True) for need in needs]

    @property
    def spent(self) -> Amount:
        """What was spent in all, without what calls in flight may spend."""
        return self._spent

    @property
    def lost(self) -> Amount:
        """The part of it of which nobody knows whether it was that much: the answers never came, or do not say."""
        return self._lost

    @property
    def untold(self) -> Amount:
        """The part of `lost` that went to calls whose answer came."""
        return self._untold

    async def reserve(self, need: Amount, budget: Budget, wait: Wait = _wait, *, is_of_job: bool = False) -> int | None:
        """Return the number of a call that may be made now; None when there is no room for it, and never will be.

        Waits while calls in flight may make room. A number must be given to `settle` or `lose`.

        Args:
            need: the most that the call can cost.
            budget: what may be spent in all.
            wait: waits for what it is given.
            is_of_job: whether a job log counts it once it is sent, and nothing is spent before.

        Raises:
            BudgetError: when it cannot be written down, or other operators or processes have another budget. Nothing is
                reserved then.
        """
        with self._lock:
            self._wanted(need, budget)
            if not self._waiting and self._has_room(need, budget):
                return self._grant(need, is_of_job=is_of_job)
            if not budget.holds(self._spent.plus(need)):
                return None
            loop = asyncio.get_running_loop()
            waiter = _Waiter(need, budget, loop, loop.create_future(), is_of_job)
            self._waiting.append(waiter)
            self._waits()
        try:
            await wait(waiter.decided)
        except BaseException:
            self._give_up(waiter)
            raise
        if waiter.error is not None:
            raise waiter.error
        return waiter.call

    def settle(self, call: int, spent: Amount) -> None:
        """A call is over, and cost `spent`."""
        with self._lock:
            is_of_job = self._end(call, spent)
            self._note(*(() if is_of_job else ("settle", call, *spent)))

    def lose(self, call: int, *, is_answered: bool = False) -> None:
        """A call is over, and what it cost is unknown: its reservation counts as spent.

        Args:
            call: its number.
            is_answered: whether an answer came, which does not say it.
        """
        with self._lock:
            need = self._calls[call]
            untold = need if is_answered else Amount()
            is_of_job = self._end(call, need)
            self._lost, self._untold = self._lost.plus(need), self._untold.plus(untold)
            if is_of_job:
                self._lost_on_jobs = self._lost_on_jobs.plus(need)
                self._untold_on_jobs = self._untold_on_jobs.plus(untold)
            self._note(*(() if is_of_job else ("lose", call, 1) if is_answered else ("lose", call)))

    def _rewrite(self, notes: GrantNotes | None) -> None:
        assert self._file is not None
        calls = {call: need for call, need in self._calls.items() if call not in self._calls_of_jobs}
        sums = Spending(
            spent=self._spent.minus(self._spent_on_jobs),
            lost=self._lost.minus(self._lost_on_jobs),
            in_flight=Amount(),
            untold=self._untold.minus(self._untold_on_jobs),
        )
        self._file.rewrite(sums, calls, notes)

    def _grant(self, need: Amount, *, is_of_job: bool) -> int:
        call = self._next
        if is_of_job:
            self._calls_of_jobs.add(call)
        elif self._file is not None:
            if self._file.has_grown:
                self._rewrite(self._notes)
            self._file.write("reserve", call, *need)
        self._next += 1
        self._calls[call] = need
        self._reserved = self._reserved.plus(need)
        return call

    def _end(self, call: int, spent: Amount) -> bool:
        """Count what a call cost; return whether it was a row of a job."""
        self._reserved = self._reserved.minus(self._calls.pop(call))
        self._spent = self._spent.plus(spent)
        if call not in self._calls_of_jobs:
            return False
        self._calls_of_jobs.remove(call)
        self._spent_on_jobs = self._spent_on_jobs.plus(spent)
        return True

    def _note(self, *entry: Any) -> None:
        """Write down what has made room, with the next call that is reserved, or now when none is in flight."""
        if self._file is not None and entry:
            self._file.note(*entry)
        self._wake_waiters()
        if self._file is not None and len(self._calls) == len(self._calls_of_jobs):
            with contextlib.suppress(BudgetError):  # a resume counts the call in full
                self._file.write()

    def _wake_waiters(self) -> None:
        """Let calls that wait go on, the first first: as far as there is room, or never will be."""
        while self._waiting:
            waiter = self._waiting[0]
            if self._has_room(waiter.need, waiter.budget):
                try:
                    waiter.call = self._grant(waiter.need, is_of_job=waiter.is_of_job)
                except BudgetError as error:
                    waiter.error = error
            elif waiter.budget.holds(self._spent.plus(waiter.need)) and not self._is_never():
                return
            self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # its event loop is closed: nobody waits any more
                waiter.loop.call_soon_threadsafe(_resolve, waiter.decided)

    def _has_room(self, need: Amount, budget: Budget) -> bool:
        return budget.holds(self._spent.plus(self._reserved).plus(need))

    def _is_never(self) -> bool:
        """Return whether there will be no room for the first call that waits, whatever becomes of those in flight."""
        return False

    def _wanted(self, need: Amount, budget: Budget) -> None:
        """A call is wanted. Called with the lock held, as the next one."""

    def _waits(self) -> None:
        """A call waits for room."""

    def _joined_again(self) -> None:
        """Somebody has joined."""

    def _left(self) -> None:
        """All have left."""

    @property
    def elsewhere(self) -> str:
        """What else was spent of the budget, for people; empty when nobody shares it."""
        return ""

    def _fail(self, text: str) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            waiter.error = BudgetError(text)
            with contextlib.suppress(RuntimeError):
                waiter.loop.call_soon_threadsafe(_resolve, waiter.decided)

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter.call is not None:
                is_of_job = self._end(waiter.call, Amount())
                self._note(*(() if is_of_job else ("settle", waiter.call, *Amount())))
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
                self._wake_waiters()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
