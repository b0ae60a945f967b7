"""The meter: what each try of a call costs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from llm_datagen.llm.chat import ChatAnswer, ChatCaller, ChatRequest
from llm_datagen.llm.client import Endpoint
from llm_datagen.llm.prices import PriceList, Prices, known_prices


class MeteredCaller:
    """Says of every answer what it cost.

    Args:
        inner: makes one try.
        endpoint: where that goes.
        prices: what a call costs there; None for what is known of its model.
    """

    def __init__(self, inner: ChatCaller, endpoint: Endpoint, *, prices: Prices | None = None) -> None:
        self._inner = inner
        self._endpoint = endpoint
        self._given = prices
        self._prices = PriceList(endpoint.label, prices)
        self._unpriced: set[str] = set()

    async def open(self) -> None:
        """Get the prices ready, then open the inner caller."""
        if self._given is None:
            await asyncio.to_thread(known_prices, "", self._endpoint.label)  # an import that takes a moment
        await self._inner.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and say what it cost.

        Raises:
            LLMError: when there is no answer.
        """
        prices = self._prices.of(request.model, request.params.get("service_tier"))
        if prices is None:
            self._say_unpriced(request)
        answer = await self._inner.complete(request)
        if answer.is_cached:
            return replace(answer, cost=0.0)
        return answer if prices is None else replace(answer, cost=prices.cost(answer.usage))

    async def close(self) -> None:
        """Close the inner caller."""
        await self._inner.close()

    def _say_unpriced(self, request: ChatRequest) -> None:
        if request.model in self._unpriced or request.ctx is None:
            return
        self._unpriced.add(request.model)
        request.ctx.log(
            f"no price is known of model {request.model!r} at {self._endpoint.host}: what it costs is not counted; "
            "give prices={'input': …, 'output': …} if it costs anything"
        )
