"""What each try of a call costs, and whether the run may spend that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from yarl import URL

from llm_datagen.errors import StopRun
from llm_datagen.llm.cost.budget import Amount, Budget, spent_on
from llm_datagen.llm.cost.plausibility import believable
from llm_datagen.llm.cost.prices import PriceList, TokenPrices, known_prices
from llm_datagen.llm.cost.shared_spend import SharedSpend
from llm_datagen.llm.cost.spend import Spend
from llm_datagen.llm.errors import BudgetError, LLMCancelledError, LLMRequestError, PromptError
from llm_datagen.llm.grants.client import LOG_WAIT_SECONDS, LOOK_SECONDS, GrantsClient
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.llm.waits import Waits, is_paused


class CostLayer(Layer):
    """Says of every answer what it cost, and reports what every call that was served has used.

    With a budget, it makes no try that could cost more than what is left of it.

    Args:
        inner: makes one try.
        address: where that goes.
        prices: what a call costs there; None for what is known of its model.
        budget: what the run may spend in all; None for any amount. Then what it spends is not written down.
        grants: talks to the grants service, when other processes share the budget.
    """

    def __init__(
        self,
        inner: Transport,
        address: Address,
        *,
        prices: TokenPrices | None = None,
        budget: Budget | None = None,
        grants: GrantsClient | None = None,
    ) -> None:
        super().__init__(inner)
        self._address = address
        self._given = prices
        self._prices = PriceList(address.label, prices)
        self._budget = budget
        self._grants = grants
        self._away_logged_until = 0.0
        self._spend: Spend | None = None
        self._waits = Waits()
        self._logged: set[tuple[str, str]] = set()

    async def open(self) -> None:
        """Get the prices ready, then open the inner transport."""
        if self._given is None:
            await asyncio.to_thread(known_prices, "", self._address.label)  # an import that takes a moment
        await super().open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and say what it cost. Waits while calls in flight may leave room for it in the budget.

        Raises:
            StopRun: when there is no room for it in the budget.
            BudgetError: when what is spent cannot be written down.
            LLMCancelledError: when the run was cancelled while the call waited.
            LLMError: when there is no answer.
        """
        prices = self._prices.of(request.model, request.params.get("service_tier"))
        if prices is None:
            self._log_once(
                request,
                "price",
                f"no price is known of model {request.model!r} at {self._address.host}: what it costs is not "
                "counted; give prices={'input': …, 'output': …} if it costs anything",
            )
        try:
            if self._budget is None:
                answer = await self._call(request)
            else:
                answer = await self._call_within(self._budget, request, prices)
        except LLMRequestError as error:
            if error.is_served:  # it was paid for, whatever it was
                self._report(request, self._address.host, request.model, error.usage, prices)
            raise
        self._report(request, URL(answer.endpoint).host or "", answer.model, answer.usage, prices)
        return answer if prices is None else replace(answer, cost=prices.cost(answer.usage))

    async def close(self) -> None:
        """Close the inner transport, and leave the spend of the run. May be called more than once."""
        try:
            await super().close()
        finally:
            spend, self._spend = self._spend, None
            if spend is not None:
                await asyncio.to_thread(spend.leave)

    async def _call_within(self, budget: Budget, request: ChatRequest, prices: TokenPrices | None) -> ChatAnswer:
        if prices is None and budget.picodollars is not None:
            raise BudgetError(f"no price is known of model {request.model!r}: give prices, or a budget of tokens")
        spend, need = self._spend_of(request), budget.most(request, prices)
        was_cancelled = _is_cancelled(request)
        call = await self._reserve(spend, need, budget, request)
        if _is_cancelled(request) and not was_cancelled:  # while it waited: after a cancel, no call begins
            spend.settle(call, Amount())
            raise LLMCancelledError(f"the call of {request.row} was given up before it was sent: the run is cancelled")
        spent: Amount | None = None  # the endpoint may have done the work, whatever becomes of the answer
        try:
            answer = await self._call(request)
            spent = spent_on(answer.usage, prices)
        except LLMRequestError as error:
            spent = Amount() if error.is_free else spent_on(error.usage, prices)
            raise
        except PromptError:  # nothing was sent
            spent = Amount()
            raise
        finally:
            if spent is None:
                spend.lose(call)
            else:
                spend.settle(call, spent)
        if spent is not None and (spent.tokens > need.tokens or spent.picodollars > need.picodollars):
            self._log_once(
                request,
                "limit",
                f"a call of model {request.model!r} used {spent.tokens:,} tokens, and {need.tokens:,} were taken for "
                f"the most: {self._address.host} does not keep to max_tokens, or puts much around the messages; the "
                "budget may be exceeded by that",
            )
        return answer

    async def _call(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and believe no count of tokens that cannot be."""
        try:
            answer = await self._inner.complete(request)
        except LLMRequestError as error:
            error.usage = self._believed(request, error.usage)
            raise
        return replace(answer, usage=self._believed(request, answer.usage))

    def _believed(self, request: ChatRequest, usage: Mapping[str, int]) -> Mapping[str, int]:
        believed, nonsense = believable(usage, request)
        if nonsense:
            self._log_once(
                request,
                "nonsense",
                f"{self._address.host} says of a call of model {request.model!r}: {nonsense}, which cannot be: it is "
                "taken as not said, and a budget counts the most that the call can cost",
            )
        return believed

    @staticmethod
    def _report(
        request: ChatRequest, provider: str, model: str, usage: Mapping[str, int], prices: TokenPrices | None
    ) -> None:
        """Report what a call that was served has used."""
        if request.ctx is None:
            return
        used: dict[str, Any] = {"provider": provider, "model": model, "requests": 1, **usage}
        cost = None if prices is None else prices.cost(usage)
        request.ctx.report_usage(used if cost is None else {**used, "cost": cost})

    async def _reserve(self, spend: Spend, need: Amount, budget: Budget, request: ChatRequest) -> int:
        while True:
            if self._grants is None:
                call = await spend.reserve(need, budget)
            else:
                call = await spend.reserve(need, budget, partial(self._wait, self._grants, request))
            if call is None:
                raise StopRun(budget.reason(spend.spent, spend.lost, need, spend.elsewhere))
            if not is_paused(request):
                return call
            spend.settle(call, Amount())  # the run was paused while it waited
            await self._waits.while_paused(request)

    def _spend_of(self, request: ChatRequest) -> Spend:
        if self._spend is None:
            ctx = request.ctx
            folder = None if ctx is None else ctx.folder
            make: Callable[[], Spend] | None = None
            if self._grants is not None:
                make = partial(SharedSpend, folder, self._grants, "" if ctx is None else ctx.pipeline_id)
            # Without a run's folder, it is the node's own.
            self._spend = Spend.join(folder or ctx or self, folder, make)
        return self._spend

    async def _wait(self, grants: GrantsClient, request: ChatRequest, decided: asyncio.Future[None]) -> None:
        """Wait until it is decided whether there is room in a budget that is shared."""
        while not decided.done():
            grants.check()
            now = time.monotonic()
            if request.ctx is not None and grants.status and now >= self._away_logged_until:
                self._away_logged_until = now + LOG_WAIT_SECONDS
                request.ctx.log(f"the budget {grants.status}", level="warning")
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            resolve = partial(_resolve, woken)
            decided.add_done_callback(resolve)
            try:
                await self._waits.until(woken, LOOK_SECONDS, request)
                await self._waits.while_paused(request)
            finally:
                decided.remove_done_callback(resolve)

    def _log_once(self, request: ChatRequest, topic: str, message: str) -> None:
        """Write it to the log, once for each topic and model."""
        if request.ctx is not None and (topic, request.model) not in self._logged:
            self._logged.add((topic, request.model))
            request.ctx.log(message)


def _resolve(woken: asyncio.Future[None], _decided: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _is_cancelled(request: ChatRequest) -> bool:
    return request.ctx is not None and request.ctx.is_cancelled()
