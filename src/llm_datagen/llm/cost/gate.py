"""Whether a run may spend what a call can cost: the budget, and what its calls wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.cost.budget import Amount, Budget
from llm_datagen.llm.cost.spend import Spend
from llm_datagen.llm.errors import LLMCancelledError
from llm_datagen.llm.types import ChatRequest
from llm_datagen.llm.waits import LOG_WAIT_SECONDS, LOOK_SECONDS, Waits, is_paused

if TYPE_CHECKING:
    from llm_datagen.llm.grants.client import GrantsClient


class BudgetGate:
    """Lets calls through that the budget has room for. Used on the event loop of the node.

    Args:
        budget: what the run may spend in all.
        grants: talks to the grants service, when other processes share the budget.
        is_of_jobs: whether what it lets through are rows of jobs, which a job log counts: see `Spend`.
    """

    def __init__(self, budget: Budget, grants: GrantsClient | None, *, is_of_jobs: bool = False) -> None:
        self.budget = budget
        self._grants = grants
        self._is_of_jobs = is_of_jobs
        self._away_logged_until = 0.0
        self._spend: Spend | None = None
        self._waits = Waits()

    async def reserve(self, need: Amount, request: ChatRequest) -> int | None:
        """Return the number of a call that may be made now, for `settle` or `lose`; None when there is no room for it.

        Waits while calls in flight may leave room for it.

        Args:
            need: the most that the call can cost.
            request: the call.

        Raises:
            BudgetError: when what is spent cannot be written down.
            LLMCancelledError: when the run was cancelled while the call waited.
        """
        was_cancelled = _is_cancelled(request)
        spend = self.spend_of(request)
        while True:
            if self._grants is not None:
                wait: Callable[[asyncio.Future[None]], Any] = partial(self._wait, self._grants, request)
                call = await spend.reserve(need, self.budget, wait, is_of_job=self._is_of_jobs)
            elif self._is_of_jobs:  # those in flight may take a day
                call = await spend.reserve(need, self.budget, partial(self._wait_long, request), is_of_job=True)
            else:
                call = await spend.reserve(need, self.budget)
            if call is None:
                return None
            if _is_cancelled(request) and not was_cancelled:  # while it waited: after a cancel, no call begins
                spend.settle(call, Amount())
                raise LLMCancelledError(
                    f"the call of {request.row} was given up before it was sent: the run is cancelled"
                )
            if not is_paused(request):
                return call
            spend.settle(call, Amount())  # the run was paused while it waited
            await self._waits.while_paused(request)

    def spend_of(self, request: ChatRequest) -> Spend:
        """Return what the run of a call spends."""
        if self._spend is None:
            ctx = request.ctx
            folder = None if ctx is None else ctx.folder
            make: Callable[[], Spend] | None = None
            if self._grants is not None:
                from llm_datagen.llm.cost.shared_spend import SharedSpend

                make = partial(SharedSpend, folder, self._grants, "" if ctx is None else ctx.pipeline_id)
            # Without a run's folder, it is the node's own.
            self._spend = Spend.join(folder or ctx or self, folder, make)
        return self._spend

    def reason(self, need: Amount, request: ChatRequest) -> str:
        """Return why there is no room for a call."""
        spend = self.spend_of(request)
        return self.budget.reason(spend.spent, spend.lost, need, spend.elsewhere, spend.untold)

    async def close(self) -> None:
        """Leave the spend of the run. May be called more than once."""
        spend, self._spend = self._spend, None
        if spend is not None:
            await asyncio.to_thread(spend.leave)

    async def _wait(self, grants: GrantsClient, request: ChatRequest, decided: asyncio.Future[None]) -> None:
        """Wait until it is decided whether there is room in a budget that is shared."""
        while not decided.done():
            grants.check()
            now = time.monotonic()
            if request.ctx is not None and grants.status and now >= self._away_logged_until:
                self._away_logged_until = now + LOG_WAIT_SECONDS
                request.ctx.log(f"the budget {grants.status}", level="warning")
            await self._look_again(request, decided)

    async def _wait_long(self, request: ChatRequest, decided: asyncio.Future[None]) -> None:
        """Wait until there is room, or never will be, for as long as that takes."""
        while not decided.done():
            await self._look_again(request, decided)

    async def _look_again(self, request: ChatRequest, decided: asyncio.Future[None]) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        resolve = partial(_resolve, woken)
        decided.add_done_callback(resolve)
        try:
            await self._waits.until(woken, LOOK_SECONDS, request)
            await self._waits.while_paused(request)
        finally:
            decided.remove_done_callback(resolve)


def _resolve(woken: asyncio.Future[None], _decided: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _is_cancelled(request: ChatRequest) -> bool:
    return request.ctx is not None and request.ctx.is_cancelled()
