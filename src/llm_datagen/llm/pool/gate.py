"""The gate in front of an endpoint: while it is down, nothing gets there but probes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.pool.circuit_breaker import CircuitBreaker
from llm_datagen.llm.types import ChatAnswer, ChatRequest, Transport

_is_probe: ContextVar[bool] = ContextVar("is_probe", default=False)


@contextmanager
def probing() -> Iterator[None]:
    """Let the calls of this block through, though the endpoint is down."""
    token = _is_probe.set(True)
    try:
        yield
    finally:
        _is_probe.reset(token)


def is_probing() -> bool:
    """Return whether this is such a call."""
    return _is_probe.get()


class CircuitBreakerLayer:
    """Sends nothing but probes while the endpoint is down: also not what had waited for a limit, or for the budget.

    Args:
        inner: sends.
        health: of the endpoint.
    """

    def __init__(self, inner: Transport, health: CircuitBreaker) -> None:
        self._inner = inner
        self._health = health

    async def open(self) -> None:
        """Open what sends."""
        await self._inner.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request.

        Raises:
            LLMRequestError: when the endpoint is down, and this is no probe; it does not count as a try.
            LLMError: when there is no answer.
        """
        if self._health.is_down and not is_probing():
            error = LLMRequestError(
                f"the call of {request.row} was not sent: its endpoint is down", may_pass=True, is_free=True
            )
            error.follows_outage = True
            raise error
        return await self._inner.complete(request)

    async def close(self) -> None:
        """Close what sends."""
        await self._inner.close()
