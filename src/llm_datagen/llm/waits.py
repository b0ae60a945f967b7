"""Waits that a cancel of the run ends, and whose rows are then done by a resume."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from llm_datagen.llm.errors import LLMCancelledError
from llm_datagen.llm.types import ChatRequest
from llm_datagen.operators import INodeContext

POLL_SECONDS = 0.1
"""How often the waits check whether the run is being cancelled, or paused."""

MAX_WAIT_SECONDS = 600.0
"""The longest wait that an endpoint may ask for: a quota that comes back later is used up, and its error says so."""

LOOK_SECONDS = 1.0
"""How often calls that wait for grants, of other processes, look whether the service is there."""

LOG_WAIT_SECONDS = 60.0
"""How often it is logged that calls wait, at most."""

IsOver = Callable[[INodeContext], bool]


def is_paused(request: ChatRequest) -> bool:
    """Return whether the run of a request is paused."""
    return request.ctx is not None and request.ctx.is_paused()


class Waits:
    """Waits of one event loop. One timer checks for all of them whether the run is being cancelled, or paused."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], tuple[INodeContext, IsOver]] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def sleep(self, seconds: float, request: ChatRequest) -> None:
        """Wait.

        Raises:
            LLMCancelledError: when the run is being cancelled.
        """
        await self._wait(asyncio.get_running_loop().create_future(), seconds, request, _never)

    async def until(self, woken: asyncio.Future[None], seconds: float, request: ChatRequest) -> None:
        """Wait for `woken`, which is resolved here when `seconds` (infinity: no end) are over, or the run is paused.

        Raises:
            LLMCancelledError: when the run is being cancelled.
        """
        await self._wait(woken, seconds, request, lambda ctx: ctx.is_paused())

    async def while_paused(self, request: ChatRequest) -> None:
        """Wait as long as the run is paused.

        Raises:
            LLMCancelledError: when the run is being cancelled.
        """
        if is_paused(request):
            woken = asyncio.get_running_loop().create_future()
            await self._wait(woken, math.inf, request, lambda ctx: not ctx.is_paused())

    async def _wait(self, woken: asyncio.Future[None], seconds: float, request: ChatRequest, is_over: IsOver) -> None:
        ctx = request.ctx
        if ctx is not None:
            self._waiting[woken] = ctx, is_over
            self._poll_later()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(seconds, _wake, woken) if math.isfinite(seconds) else None
        try:
            if ctx is None or not ctx.is_cancelled():
                await woken
        finally:
            self._waiting.pop(woken, None)
            if timer is not None:
                timer.cancel()
        if ctx is not None and ctx.is_cancelled():
            raise LLMCancelledError(f"the call of {request.row} was given up before it was sent: the run is cancelled")

    def _poll_later(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._timer = None
        for woken, (ctx, is_over) in self._waiting.items():
            if ctx.is_cancelled() or is_over(ctx):
                _wake(woken)
        self._poll_later()


def _never(_ctx: INodeContext) -> bool:
    return False


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
