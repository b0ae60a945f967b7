"""Waits that a cancel of the run ends, and whose rows are then done again by a resume."""

from __future__ import annotations

import asyncio
import math

from llm_datagen.llm.chat import ChatRequest
from llm_datagen.llm.errors import LLMCancelledError
from llm_datagen.operators import INodeContext

LOOK_SECONDS = 0.1
"""How often the waits look whether the run is being cancelled."""


class Waits:
    """Waits of one event loop. One timer looks for all of them whether the run is being cancelled."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], INodeContext] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def sleep(self, seconds: float, request: ChatRequest) -> None:
        """Wait.

        Raises:
            LLMCancelledError: when the run is being cancelled.
        """
        await self.until(asyncio.get_running_loop().create_future(), seconds, request)

    async def until(self, woken: asyncio.Future[None], seconds: float, request: ChatRequest) -> None:
        """Wait for `woken`, which is resolved here when `seconds` (infinity: no end) are over.

        Raises:
            LLMCancelledError: when the run is being cancelled.
        """
        ctx = request.ctx
        if ctx is not None and not ctx.is_cancelled():
            self._waiting[woken] = ctx
            self._look_later()
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

    def _look_later(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        for woken, ctx in self._waiting.items():
            if ctx.is_cancelled():
                _wake(woken)
        self._look_later()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
