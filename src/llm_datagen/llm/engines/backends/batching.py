"""Calls that come one by one are computed in batches, for libraries that compute one batch at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

TICK_SECONDS = 0.005
"""So long a batch that is not full waits for more calls."""

Job = TypeVar("Job")


class Batcher(Generic[Job]):
    """Collects jobs, and has them done together. Used on one event loop; the work is done on a thread of its own.

    Args:
        size: jobs of a batch, at most.
        length_of: how long a job is: a batch has jobs of about the same length.
        work: does a batch; blocks.
    """

    def __init__(self, size: int, length_of: Callable[[Job], int], work: Callable[[Sequence[Job]], None]) -> None:
        self._size = size
        self._length_of = length_of
        self._work = work
        self._waiting: dict[Job, asyncio.Future[None]] = {}  # the oldest first
        self._has_come = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batch")
        self._loop: asyncio.Task[None] | None = None

    async def do(self, job: Job) -> None:
        """Have a job done, and wait until it is.

        Raises:
            BaseException: what its batch failed of.
        """
        if self._loop is None:
            self._loop = asyncio.create_task(self._run())
        done = self._waiting[job] = asyncio.get_running_loop().create_future()
        self._has_come.set()
        try:
            await done
        finally:
            self._waiting.pop(job, None)

    async def _run(self) -> None:
        while True:
            await self._has_come.wait()
            self._has_come.clear()
            while self._waiting:
                if len(self._waiting) < self._size:
                    await asyncio.sleep(TICK_SECONDS)
                if self._waiting:
                    await self._do_batch(self._chosen())

    def _chosen(self) -> list[Job]:
        """Return the jobs that are done next: the one that has waited longest, and those nearest to its length."""
        oldest = next(iter(self._waiting))
        ordered = sorted(self._waiting, key=self._length_of)
        first = max(0, min(ordered.index(oldest) - self._size // 2, len(ordered) - self._size))
        return ordered[first : first + self._size]

    async def _do_batch(self, batch: list[Job]) -> None:
        waiting = [self._waiting.pop(job) for job in batch]
        error: BaseException | None = None
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._work, batch)
        except Exception as failure:  # noqa: BLE001 - whoever waits gets it
            error = failure
        for done in waiting:
            if not done.done():
                done.set_result(None) if error is None else done.set_exception(error)
