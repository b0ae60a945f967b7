"""Threads on which plain functions are called, so that the event loop never waits for one."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from llm_datagen.executors.thread_pool import WorkerPool
from llm_datagen.llm.errors import ToolsStuckError

MOST_LEFT = 100
"""Calls that were given up and still run, at most: then the run fails, before there are ever more threads."""


class TookTooLongError(Exception):
    """Raised when a call of a tool is given up."""


class ToolThreads:
    """Calls functions on threads. Used on the event loop of a node.

    A thread cannot be stopped. One whose call is given up is left behind, with another one in its place.

    Args:
        size: calls at once.
    """

    def __init__(self, size: int) -> None:
        self._places = asyncio.Semaphore(size)
        self._pool = WorkerPool(size + MOST_LEFT, "llm-tools")
        self._left = 0

    async def call(
        self, function: Callable[..., Any], arguments: dict[str, Any], seconds: float, begun: Callable[[], None]
    ) -> Any:
        """Return what the function returns.

        Args:
            function: it.
            arguments: keyword arguments.
            seconds: how long the call may take, from when it begins.
            begun: called when it begins, after it has waited for a place.

        Raises:
            TookTooLongError: when it takes longer. It is left behind.
            ToolsStuckError: when too many calls were left behind, and have not come back.
            BaseException: what the function raises.
        """
        async with self._places:
            if self._left >= MOST_LEFT:
                raise ToolsStuckError(
                    f"{MOST_LEFT} calls of tools took longer than they may, and still run: let the tools end by "
                    "themselves, such as by a timeout of their own connections, or raise timeout in tools"
                )
            begun()
            run = contextvars.copy_context().run
            future = self._pool.submit(run, partial(function, **arguments))
            loop, done = asyncio.get_running_loop(), asyncio.Event()
            future.add_done_callback(lambda _: _call_on(loop, done.set))
            try:
                async with asyncio.timeout(seconds):
                    await done.wait()
            except TimeoutError:
                raise TookTooLongError from None
            finally:
                if not future.done():
                    self._leave(future, loop)
            return future.result()

    def close(self) -> None:
        """End the threads that wait; what is still running is left behind."""
        self._pool.stop(wait=False)

    def _leave(self, future: Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        self._left += 1
        future.add_done_callback(lambda _: _call_on(loop, self._came_back))

    def _came_back(self) -> None:
        self._left -= 1


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
