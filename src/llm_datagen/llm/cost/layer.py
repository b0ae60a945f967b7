"""What each try of a call costs, and whether the run may spend that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import StopRun
from llm_datagen.llm.cost.budget import Amount, Budget, spent_on
from llm_datagen.llm.cost.gate import BudgetGate
from llm_datagen.llm.cost.known_prices import PriceList, known_prices
from llm_datagen.llm.cost.plausibility import believable
from llm_datagen.llm.cost.prices import TokenPrices
from llm_datagen.llm.errors import BudgetError, LLMRequestError, PromptError
from llm_datagen.llm.http.address import Address, host_of
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.grants.client import GrantsClient


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
        self._prices = PriceList(address.label, prices, of_library=address.adapter.known_prices)
        self._gate = None if budget is None else BudgetGate(budget, grants)
        self._logged: set[tuple[str, str]] = set()

    async def open(self) -> None:
        """Get the prices ready, then open the inner transport."""
        if self._given is None:
            # Imports that take a moment.
            await asyncio.to_thread(self._address.adapter.known_prices, "")
            await asyncio.to_thread(known_prices, "", self._address.label)
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
                lambda: (
                    f"no price is known of model {request.model!r} at {self._address.host}: what it costs is not "
                    "counted; give prices={'input': …, 'output': …} if it costs anything"
                ),
            )
        try:
            if self._gate is None:
                answer = await self._call(request)
            else:
                answer = await self._call_within(self._gate, request, prices)
        except LLMRequestError as error:
            if error.is_served:  # it was paid for, whatever it was
                cost = None if prices is None else prices.cost(error.usage)
                self._report(request, self._address.host, request.model, error.usage, cost)
            raise
        cost = None if prices is None else prices.cost(answer.usage)
        self._report(request, host_of(answer.endpoint) or "", answer.model, answer.usage, cost)
        return answer if prices is None else replace(answer, cost=cost)

    async def close(self) -> None:
        """Close the inner transport, and leave the spend of the run. May be called more than once."""
        try:
            await super().close()
        finally:
            if self._gate is not None:
                await self._gate.close()

    async def _call_within(self, gate: BudgetGate, request: ChatRequest, prices: TokenPrices | None) -> ChatAnswer:
        if prices is None and gate.budget.picodollars is not None:
            raise BudgetError(f"no price is known of model {request.model!r}: give prices, or a budget of tokens")
        spend, need = gate.spend_of(request), gate.budget.most(request, prices)
        call = await gate.reserve(need, request)
        if call is None:
            raise StopRun(gate.reason(need, request))
        spent: Amount | None = None  # the endpoint may have done the work, whatever becomes of the answer
        is_answered = False
        try:
            answer = await self._call(request)
            is_answered = True
            spent = spent_on(answer.usage, prices)
        except LLMRequestError as error:
            is_answered = error.has_come
            spent = Amount() if error.is_free else spent_on(error.usage, prices)
            raise
        except PromptError:  # nothing was sent
            spent = Amount()
            raise
        finally:
            if spent is None:
                spend.lose(call, is_answered=is_answered)
            else:
                spend.settle(call, spent)
        if spent is not None and (spent.tokens > need.tokens or spent.picodollars > need.picodollars):
            self._log_once(
                request,
                "limit",
                lambda: (
                    f"a call of model {request.model!r} used {spent.tokens:,} tokens, and {need.tokens:,} were taken "
                    f"for the most: {self._address.host} does not keep to max_tokens, or puts much around the "
                    "messages; the budget may be exceeded by that"
                ),
            )
        return answer

    async def _call(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and believe no count of tokens that cannot be."""
        try:
            answer = await self._inner.complete(request)
        except LLMRequestError as error:
            error.usage = self._believed(request, error.usage)
            raise
        believed = self._believed(request, answer.usage)
        return answer if believed is answer.usage else replace(answer, usage=believed)

    def _believed(self, request: ChatRequest, usage: Mapping[str, int]) -> Mapping[str, int]:
        believed, nonsense = believable(usage, request)
        if nonsense:
            self._log_once(
                request,
                "nonsense",
                lambda: (
                    f"{self._address.host} says of a call of model {request.model!r}: {nonsense}, which cannot be: it "
                    "is taken as not said, and a budget counts the most that the call can cost"
                ),
            )
        return believed

    @staticmethod
    def _report(request: ChatRequest, provider: str, model: str, usage: Mapping[str, int], cost: float | None) -> None:
        """Report what a call that was served has used."""
        if request.ctx is None:
            return
        used: dict[str, Any] = {"provider": provider, "model": model, "requests": 1, **usage}
        if cost is not None:
            used["cost"] = cost
        request.ctx.report_usage(used)

    def _log_once(self, request: ChatRequest, topic: str, message: Callable[[], str]) -> None:
        """Write what `message` makes to the log, once for each topic and model."""
        if request.ctx is not None and (topic, request.model) not in self._logged:
            self._logged.add((topic, request.model))
            request.ctx.log(message())
