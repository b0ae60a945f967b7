"""Tries again: a call that failed in passing is made again after a pause, while other rows go on."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime

from tenacity import RetryCallState, wait_random_exponential

from llm_datagen.errors import FatalError
from llm_datagen.llm.chat import ChatAnswer, ChatCaller, ChatRequest
from llm_datagen.llm.errors import LLMRequestError

MAX_WAIT_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 600.0
"""The longest pause that an endpoint may ask for: a longer one is a used-up quota, and a failure."""
_SPREAD = 0.1


class RetryingCaller:
    """Makes a call again when it failed in passing.

    The pause before a try is random, up to `retry_wait` doubled with each try and at most 60 seconds; never less than
    the endpoint asked for by ``Retry-After``. A cancel does not end a pause: after `grace` the node gives up the call.

    Args:
        inner: makes one try.
        max_retries: how many tries may follow the first one.
        retry_wait: seconds that the first pause takes at most.
        is_down: asked when a call has used up its tries: whether its endpoint is down, so that the failure is not the
            call's. Then its tries begin anew.
        sleep: how to wait.
    """

    def __init__(
        self,
        inner: ChatCaller,
        *,
        max_retries: int,
        retry_wait: float,
        is_down: Callable[[ChatRequest, LLMRequestError], Awaitable[bool]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._max_retries = max_retries
        self._schedule = wait_random_exponential(multiplier=retry_wait, max=MAX_WAIT_SECONDS)
        self._is_down = is_down
        self._sleep = sleep

    async def open(self) -> None:
        """Open what makes the tries."""
        await self._inner.open()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, with as many tries as it needs and may have.

        Raises:
            LLMRequestError: of the last try.
        """
        attempts = 1
        while True:
            try:
                answer = await self._inner.complete(request)
            except LLMRequestError as error:
                if error.follows_outage:
                    attempts = 1
                asked = error.retry_after or 0.0
                if not error.may_pass or attempts > self._max_retries or asked > MAX_RETRY_AFTER_SECONDS:
                    if error.may_pass and self._is_down is not None and await self._is_down(request, error):
                        attempts = 1
                        continue
                    if attempts > 1 and not isinstance(error, FatalError):
                        error.args = (f"{error} (try {attempts} of {self._max_retries + 1})",)
                    raise
                pause = self._pause(attempts, asked)
            else:
                return answer if attempts == 1 else replace(answer, attempts=attempts)
            await self._sleep(pause)
            attempts += 1

    async def close(self) -> None:
        """Close what makes the tries."""
        await self._inner.close()

    def _pause(self, attempts: int, asked: float) -> float:
        state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]
        state.attempt_number = attempts
        # A little more than asked, so that the rows that were turned away together do not come back together.
        return max(float(self._schedule(state)), asked * (1 + random.random() * _SPREAD))


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that an endpoint asks to wait; None when it does not say, or not in a form that is known.

    Args:
        headers: of the response, by names in any case: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date.
        now: seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
