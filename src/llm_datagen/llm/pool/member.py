"""A member of a pool: an endpoint, its layers, and its circuit breaker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from llm_datagen.llm.endpoints import Endpoint
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.limits.layer import LimitLayer
from llm_datagen.llm.pool.circuit_breaker import CircuitBreaker, FailureKind, failure_kind
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.runs.outage import DownEndpoint, down_endpoint
from llm_datagen.streams.storage.owner import time_text

PING = ({"role": "user", "content": "ping"},)
"""The ping: it shows whether a failure is the endpoint's, or due to what a row asked for."""
_PAIR = ({"role": "query", "content": "ping"}, {"role": "document", "content": "pong"})
"""The same for a rerank: a query and a document."""


class JobHolder(Protocol):
    """Knows which calls are in jobs."""

    def holds(self, request: ChatRequest) -> bool:
        """Return whether a job has the call."""


class Member(Layer):
    """An endpoint of a pool: the outermost of its layers. Used on the event loop of the node.

    Args:
        endpoint: the endpoint.
        inner: makes one try of a call there.
        breaker: of the endpoint, shared with its layer.
        limited: the layer of `inner` that knows its limits; None when there is none.
        pings: whether it can be pinged; else a failure is always the call's own.
        jobs: knows which calls are in jobs there; None: none are.
        clock: returns monotonic seconds.

    Attributes:
        label: its model and URL, as messages name it.
        breaker: whether calls may go there.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        inner: Transport,
        *,
        breaker: CircuitBreaker | None = None,
        limited: LimitLayer | None = None,
        pings: bool = True,
        jobs: JobHolder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(inner)
        self.endpoint = endpoint
        self.label = f"{endpoint.model} at {endpoint.address.label}"
        self.breaker = breaker or CircuitBreaker(clock)
        self._limited = limited
        self._pings = pings
        self._jobs = jobs
        self._clock = clock
        self._avoided_until = 0.0
        self._ping: asyncio.Task[LLMRequestError | None] | None = None
        self._probes = 0

    def holds(self, request: ChatRequest) -> bool:
        """Return whether the call is in a job there, so that it must not go anywhere else."""
        return self._jobs is not None and self._jobs.holds(request)

    def takes(self, request: ChatRequest) -> bool:
        """Return whether its limits allow the call at all."""
        return self._limited is None or self._limited.takes(self._own(request))

    def has_room(self, request: ChatRequest) -> bool:
        """Return whether the call, which it `takes`, would not have to wait for its limits."""
        return self._limited is None or self._limited.has_room(self._own(request))

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make one try of a call here: with the model, and the params, of this endpoint.

        Raises:
            LLMError: when there is no answer. What that says of the endpoint is not recorded yet, see `record_failure`.
        """
        sent_at = self.breaker.openings
        answer = await self._inner.complete(self._own(request))
        self._avoided_until = 0.0
        self._record_answer(request, sent_at)
        return answer

    async def record_failure(self, request: ChatRequest, error: LLMRequestError, sent_at: int) -> None:
        """Record a failed call, and find out whether the endpoint is down when that may be so.

        Args:
            request: the call.
            error: how it failed.
            sent_at: how often the breaker had opened when it was sent.
        """
        if error.follows_outage:
            return  # it was not sent
        kind = failure_kind(error)
        if kind is FailureKind.ANSWERS:
            self._avoided_until = self._clock() + (error.retry_after or 0.0)
            self._record_answer(request, sent_at)
        elif kind is not FailureKind.NOT_REACHED:
            may_be_down = self.breaker.record_failure(error) or kind is FailureKind.REFUSES
            if may_be_down and not self.is_down:
                await self.ping_after(request, error)

    async def ping_after(self, request: ChatRequest, error: LLMRequestError) -> None:
        """Ask the endpoint something tiny after `error`, and record whether it answered.

        Many may wait for one ping.
        """
        if not self._pings:
            return
        if self._ping is None or self._ping.done():
            self._ping = asyncio.create_task(self._send_ping(request))
        ping = await asyncio.shield(self._ping)
        if ping is None:
            self._record_answer(request, self.breaker.openings)
        elif failure_kind(ping) is FailureKind.NOT_REACHED:
            return
        elif self.breaker.trip(error, ping) and request.ctx is not None:
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
        self.breaker.begin_probe()
        try:
            if self._probes % 2:
                return await self.complete(replace(request, is_probe=True))
            await self.ping_after(request, self.breaker.error or LLMRequestError("down"))
            return None
        finally:
            self.breaker.end_probe()

    def as_down(self) -> DownEndpoint:
        """Return what is known of it while it is down."""
        breaker, error = self.breaker, self.breaker.last_error
        status = None if error is None else error.status
        return down_endpoint(self.label, time_text(breaker.since_time), status, error, breaker.tries)

    @property
    def is_down(self) -> bool:
        """Whether it gets no call but probes."""
        return self.breaker.is_open

    @property
    def is_avoided(self) -> bool:
        """Whether it has asked for a pause (``Retry-After``) that is not over, and has answered nothing since."""
        return self._clock() < self._avoided_until

    async def close(self) -> None:
        """End the ping, then close the layers of the endpoint."""
        if self._ping is not None:
            self._ping.cancel()
            await asyncio.wait([self._ping])
        await super().close()

    def _own(self, request: ChatRequest) -> ChatRequest:
        endpoint = self.endpoint
        if not endpoint.params and endpoint.model == request.model:
            return request
        params = {**request.params, **endpoint.params} if endpoint.params else request.params
        return replace(request, model=endpoint.model, params=params)

    async def _send_ping(self, request: ChatRequest) -> LLMRequestError | None:
        """Send a ping; return its error, or None when the endpoint answers."""
        ping = replace(
            request,
            messages=_PAIR if request.operation == "rerank" else PING,
            params={"max_tokens": 1} if request.operation == "chat" else self._own(request).params,
            model=self.endpoint.model,
            row="a probe",
            choices=1,
            prefix=None,
            is_probe=True,
        )
        try:
            await self._inner.complete(ping)
        except LLMRequestError as error:
            return None if failure_kind(error) is FailureKind.ANSWERS else error
        return None

    def _record_answer(self, request: ChatRequest, sent_at: int) -> None:
        if self.breaker.record_answer(sent_at) and request.ctx is not None:
            request.ctx.log(f"{self.label} answers again", level="warning", endpoint=self.label)
