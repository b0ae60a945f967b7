"""Retries: a call with a transient error is repeated after a pause, while other rows go on."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from llm_datagen.errors import FatalError
from llm_datagen.executors.retry import full_jitter
from llm_datagen.llm.errors import LLMRequestError, LocalResourceError
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.llm.waits import MAX_WAIT_SECONDS, Waits

_JITTER = 0.1
_MAX_SHORTAGES = 20
"""Tries in a row that found no file or port free: with pauses of up to a minute, for some ten minutes."""


class RetryLayer(Layer):
    """Repeats a call after a transient error.

    The pause before a try is random, up to `retry_wait` doubled with each try and at most 60 seconds; never less than
    the endpoint asked for by ``Retry-After``. After a connection that was cut, or a damaged body, the first new try
    is made at once: there is nothing to wait for, and when the endpoint is down, the circuit breaker ends this. A
    cancel of the run ends a pause; the row is then done by a resume.

    Args:
        inner: makes one try.
        max_retries: how many tries may follow the first one.
        retry_wait: seconds that the first pause takes at most.
        is_down: asked when a call has used up its tries: whether its endpoint is down, so that the failure is not the
            call's. Then its tries are counted from 1 again.
        sleep: how to wait before a request is made again.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        max_retries: int,
        retry_wait: float,
        is_down: Callable[[ChatRequest, LLMRequestError], Awaitable[bool]] | None = None,
        sleep: Callable[[float, ChatRequest], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(inner)
        self._max_retries = max_retries
        self._retry_wait = retry_wait
        self._is_down = is_down
        self._sleep = sleep or Waits().sleep

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, with as many tries as it needs and may have.

        Raises:
            LLMRequestError: of the last try.
            LocalResourceError: when this machine had no files or ports for a call in 20 tries.
            LLMCancelledError: when the run was cancelled between two tries.
        """
        attempts, shortages = 1, 0
        while True:
            try:
                answer = await self._inner.complete(request)
            except LLMRequestError as error:
                if error.is_local:  # this counts as no try: the row has nothing to do with it
                    shortages += 1
                    if shortages > _MAX_SHORTAGES:
                        raise LocalResourceError(str(error), may_pass=True, is_free=True, is_local=True) from error
                    await self._sleep(full_jitter(self._retry_wait, shortages), request)
                    continue
                if error.follows_outage:
                    attempts = 1
                asked = error.retry_after or 0.0
                if not error.may_pass or attempts > self._max_retries or asked > MAX_WAIT_SECONDS:
                    if error.may_pass and self._is_down is not None and await self._is_down(request, error):
                        attempts = 1
                        continue
                    if attempts > 1 and not isinstance(error, FatalError):
                        error.args = (f"{error} (try {attempts} of {self._max_retries + 1})",)
                    raise
                pause = 0.0 if attempts == 1 and _was_cut(error) else self._pause(attempts, asked)
            else:
                return answer if attempts == 1 else replace(answer, attempts=attempts)
            if pause:
                await self._sleep(pause, request)
            attempts += 1

    def _pause(self, attempts: int, asked: float) -> float:
        # A little more than asked, so that the rows that were turned away together do not come back together.
        return max(full_jitter(self._retry_wait, attempts), asked * (1 + random.random() * _JITTER))


def _was_cut(error: LLMRequestError) -> bool:
    """Return whether the connection, or the body, was broken: not an answer that says no, and not one that is late."""
    is_cut = error.status is None and not isinstance(error.__cause__, TimeoutError)
    return (is_cut or (error.status == 200 and error.amounts_to == 502)) and not error.retry_after
