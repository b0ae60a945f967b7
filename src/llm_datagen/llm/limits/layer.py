"""Delays calls until the endpoint's limits have room for them."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.permit import UNKNOWN_OUTCOME, CallOutcome, Permit, Waiter
from llm_datagen.llm.limits.shared import SharedLimiter, limiter_of
from llm_datagen.llm.limits.token_estimate import TokenEstimate, least_tokens, used_tokens
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.llm.waits import LOG_WAIT_SECONDS, LOOK_SECONDS, Waits, is_paused

if TYPE_CHECKING:
    from llm_datagen.llm.grants.client import GrantsClient

_LOG_SECONDS = 10.0
_LONG_WAIT_SECONDS = 10.0


class LimitLayer(Layer):
    """Makes calls to one model of one endpoint, within its limits.

    All operators of this process with the same endpoint, key and model share the limits, whichever pipelines, nodes and
    event loops they belong to; when they were given different ones, the lowest hold. Calls wait in order. A cancel of
    the run ends a wait within a fifth of a second; its row is then done by a resume. While the run is paused, no call
    is sent.

    Args:
        inner: makes a call.
        endpoint: the URL of the calls.
        api_key: the key that they are made with.
        model: the model that they ask.
        limits: what the endpoint allows.
        limiter: another limiter than the one that the process shares.
        grants: talks to the grants service, when other processes share the limits.
        call_seconds: the longest that a call may take.
        notice: a line for the log, before the first call.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        endpoint: str,
        api_key: Secret | None,
        model: str,
        limits: Limits | None = None,
        limiter: Limiter | None = None,
        grants: GrantsClient | None = None,
        call_seconds: float = 1.0,
        notice: str = "",
    ) -> None:
        super().__init__(inner)
        self._endpoint = endpoint
        self._api_key = api_key
        self._model = model
        self._limits = limits or Limits()
        self._own_limiter = limiter
        self._grants = grants
        self._call_seconds = call_seconds
        self._notice = notice
        self._shared: SharedLimiter | None = None
        self._limiter: Limiter | None = None
        self._estimate = TokenEstimate()
        self._waits = Waits()
        self._logged_until = 0.0
        self._wait_logged_until = 0.0

    async def open(self) -> None:
        """Open the inner transport, then join the limiter of the endpoint."""
        await super().open()
        if self._own_limiter is None:
            self._shared = limiter_of(
                self._endpoint,
                self._api_key,
                self._model,
                self._limits,
                client=self._grants,
                call_seconds=self._call_seconds,
            )
            self._limiter = self._shared.limiter
        else:
            self._limiter = self._own_limiter
            self._limiter.attach(self._limits)

    def takes(self, request: ChatRequest) -> bool:
        """Return whether the tokens of a minute are enough for the call at all."""
        limit = None if self._limiter is None else self._limiter.limits.tokens_per_minute
        return limit is None or least_tokens(request) <= limit

    def has_room(self, request: ChatRequest) -> bool:
        """Return whether the call would not have to wait. To be asked for calls that `takes` allows."""
        limiter = self._limiter
        return limiter is None or limiter.has_room(self._tokens(limiter, request))

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Wait for room, and while the run is paused, then make the call.

        Raises:
            LLMRequestError: when the call failed, or needs more tokens than a minute has.
            LLMCancelledError: when the run was cancelled while the call waited.
        """
        limiter = self._limiter
        if limiter is None:
            raise LLMError("the layer was called before open()")
        if self._notice and request.ctx is not None:
            request.ctx.log(self._notice, level="warning")
            self._notice = ""
        tokens = self._tokens(limiter, request)
        permit = None if is_paused(request) else limiter.enter(tokens)
        if permit is None:
            permit = await self._wait(limiter, tokens, request)
        outcome = UNKNOWN_OUTCOME
        try:
            answer = await self._inner.complete(request)
            outcome = CallOutcome(used=used_tokens(answer.usage), is_answered=True, left=answer.left)
        except LLMRequestError as error:
            outcome = CallOutcome(
                is_throttled=error.amounts_to == 429 and error.may_pass,
                retry_after=error.retry_after,
                left=error.left,
            )
            raise
        finally:
            at_once = limiter.leave(permit, outcome)
            if at_once is not None:
                self._log_concurrency(request, at_once)
        if tokens:
            self._estimate.learn(request, answer)
        return answer

    async def close(self) -> None:
        """Leave the limiter, then close the inner transport."""
        limiter, self._limiter = self._limiter, None
        shared, self._shared = self._shared, None
        if shared is not None:
            await asyncio.to_thread(shared.leave, self._limits)
        elif limiter is not None:
            limiter.detach(self._limits)
        await super().close()

    def _log_concurrency(self, request: ChatRequest, at_once: int) -> None:
        """Log how many calls may be in flight when that changes; that it fell, every ten seconds at most."""
        if request.ctx is None:
            return
        name, now = f"{self._model} at {self._endpoint}", time.monotonic()
        if at_once == 0:
            request.ctx.log(f"{name} answers again as fast as it is asked", at_once=None)
        elif now >= self._logged_until:
            self._logged_until = now + _LOG_SECONDS
            request.ctx.log(f"{name} keeps turning calls away (429): fewer at once", at_once=at_once)

    def _log_wait(self, request: ChatRequest, seconds: float) -> None:
        """Log that calls wait for long, every minute at most."""
        now = time.monotonic()
        if request.ctx is not None and _LONG_WAIT_SECONDS <= seconds < math.inf and now >= self._wait_logged_until:
            self._wait_logged_until = now + LOG_WAIT_SECONDS
            name = f"{self._model} at {self._endpoint}"
            request.ctx.log(f"{name} has no room for another call by its limits: calls wait", seconds=round(seconds, 1))

    def _log_away(self, grants: GrantsClient, request: ChatRequest) -> None:
        """Log that calls wait for the grants service, every minute at most."""
        now = time.monotonic()
        if request.ctx is not None and grants.status and now >= self._wait_logged_until:
            self._wait_logged_until = now + LOG_WAIT_SECONDS
            request.ctx.log(f"{self._model} at {self._endpoint} {grants.status}", level="warning")

    def _tokens(self, limiter: Limiter, request: ChatRequest) -> int:
        if not limiter.counts_tokens:
            return 0
        limit = limiter.limits.tokens_per_minute
        if limit is None:
            return self._estimate.most(request)
        least = least_tokens(request)
        if least > limit:
            raise LLMRequestError(
                f"the call of {request.row} needs {least} tokens or more; {self._model} at {self._endpoint} may use "
                f"{limit} per minute: lower max_tokens in params, shorten the prompt, or raise tokens_per_minute"
            )
        return min(self._estimate.most(request), limit)

    async def _wait(self, limiter: Limiter, tokens: int, request: ChatRequest) -> Permit:
        while True:
            await self._waits.while_paused(request)
            permit = await self._queue(limiter, tokens, request)
            if permit is not None:
                return permit

    async def _queue(self, limiter: Limiter, tokens: int, request: ChatRequest) -> Permit | None:
        """Return the permit for the call; None when the run was paused meanwhile: then others go first."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()

        def resolve() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake() -> None:
            if asyncio._get_running_loop() is loop:  # a call from another thread costs a write to the loop's pipe
                resolve()
            else:
                loop.call_soon_threadsafe(resolve)

        waiter = Waiter(tokens, wake)
        limiter.queue(waiter, is_first=request.is_probe)
        try:
            while not is_paused(request):
                woken = loop.create_future()
                turn = limiter.turn(waiter)
                if isinstance(turn, Permit):
                    return turn
                self._log_wait(request, turn)
                if self._grants is not None:
                    self._grants.check()
                    self._log_away(self._grants, request)
                    turn = min(turn, LOOK_SECONDS)
                await self._waits.until(woken, turn, request)
        except BaseException:
            limiter.give_up(waiter)
            raise
        limiter.give_up(waiter)
        return None
