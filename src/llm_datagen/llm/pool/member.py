"""A member of a pool: an endpoint, what makes its calls, and its health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from llm_datagen.llm.endpoints import EndpointSpec
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.limits.layer import LimitLayer
from llm_datagen.llm.pool.circuit_breaker import CircuitBreaker, Kind, kind_of
from llm_datagen.llm.pool.gate import probing
from llm_datagen.llm.types import ChatAnswer, ChatRequest, Transport

PING = ({"role": "user", "content": "ping"},)
"""What an endpoint is asked to find out whether a failure is its own, or due to what a row asked for."""


class Member:
    """An endpoint of a pool. Used on the event loop of the node.

    Args:
        spec: the endpoint.
        caller: makes one try of a call there.
        health: what is known of it, shared with the gate in front of it.
        limited: the layer of `caller` that knows its limits; None when there is none.
        pings: whether it can be asked if it is there; else a failure is always the call's own.
        clock: returns monotonic seconds.

    Attributes:
        label: its model and URL, as messages name it.
        health: whether calls may go there.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        caller: Transport,
        *,
        health: CircuitBreaker | None = None,
        limited: LimitLayer | None = None,
        pings: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.label = f"{spec.model} at {spec.endpoint.label}"
        self.health = health or CircuitBreaker(clock)
        self._caller = caller
        self._limited = limited
        self._pings = pings
        self._clock = clock
        self._avoided_until = 0.0
        self._ping: asyncio.Task[LLMRequestError | None] | None = None
        self._probes = 0

    async def open(self) -> None:
        """Open what makes the calls."""
        await self._caller.open()

    def takes(self, request: ChatRequest) -> bool:
        """Return whether its limits allow the call at all."""
        return self._limited is None or self._limited.takes(self._own(request))

    def has_room(self, request: ChatRequest) -> bool:
        """Return whether the call, which it `takes`, would not have to wait for its limits."""
        return self._limited is None or self._limited.has_room(self._own(request))

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make one try of a call here: with the model, and the params, of this endpoint.

        Raises:
            LLMError: when there is no answer. What that says of the endpoint is not noted yet, see `blame`.
        """
        answer = await self._caller.complete(self._own(request))
        self._avoided_until = 0.0
        self._is_there(request)
        return answer

    async def blame(self, request: ChatRequest, error: LLMRequestError) -> None:
        """Take note of a failed call, and find out whether the endpoint is down when that may be so."""
        kind = kind_of(error)
        if kind is Kind.ANSWERS:
            self._avoided_until = self._clock() + (error.retry_after or 0.0)
            self._is_there(request)
        elif (kind is Kind.REFUSES or self.health.failed()) and not self.health.is_down:
            await self.examine(request, error)

    async def examine(self, request: ChatRequest, error: LLMRequestError) -> None:
        """Ask the endpoint something tiny after `error`, and take note of whether it answered.

        Many may wait for one ping.
        """
        if not self._pings:
            return
        if self._ping is None or self._ping.done():
            self._ping = asyncio.create_task(self._answer_to_ping(request))
        ping = await asyncio.shield(self._ping)
        if ping is None:
            self._is_there(request)
        elif kind_of(ping) is Kind.UNASKED:
            return
        elif self.health.went_down(error, ping) and request.ctx is not None:
            text = f"{self.label} is down: {error}; it gets no call but probes"
            request.ctx.log(text, level="warning", endpoint=self.label)

    async def probe(self, request: ChatRequest) -> ChatAnswer | None:
        """Find out whether the endpoint is back: by `request` itself and by a ping, taking turns.

        A row may be what an endpoint fails at, and a ping what it does not know; one of the two gets through.

        Returns:
            The answer; None when it was a ping's turn.

        Raises:
            LLMError: when `request` got no answer.
        """
        self._probes += 1
        self.health.begin_probe()
        try:
            if self._probes % 2:
                with probing():
                    return await self.complete(request)
            await self.examine(request, self.health.error or LLMRequestError("down"))
            return None
        finally:
            self.health.end_probe()

    @property
    def is_avoided(self) -> bool:
        """Whether it has asked for a pause (``Retry-After``) that is not over, and has answered nothing since."""
        return self._clock() < self._avoided_until

    async def close(self) -> None:
        """Close what makes the calls."""
        if self._ping is not None:
            self._ping.cancel()
            await asyncio.wait([self._ping])
        await self._caller.close()

    def _own(self, request: ChatRequest) -> ChatRequest:
        spec = self.spec
        if not spec.params and spec.model == request.model:
            return request
        params = {**request.params, **spec.params} if spec.params else request.params
        return replace(request, model=spec.model, params=params)

    async def _answer_to_ping(self, request: ChatRequest) -> LLMRequestError | None:
        """Return None when the endpoint is there."""
        ping = replace(request, messages=PING, params={"max_tokens": 1}, model=self.spec.model, row="a probe")
        try:
            with probing():
                await self._caller.complete(ping)
        except LLMRequestError as error:
            return None if kind_of(error) is Kind.ANSWERS else error
        return None

    def _is_there(self, request: ChatRequest) -> None:
        if self.health.answered() and request.ctx is not None:
            request.ctx.log(f"{self.label} answers again", level="warning", endpoint=self.label)
