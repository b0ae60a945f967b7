"""The job log of a node, open: read on the event loop, and written on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.errors import BatchError

T = TypeVar("T")

_open: set[Path] = set()


class LogThread:
    """Has a job log for one operator. Used on the event loop of the node.

    Args:
        path: the file of the job log.

    Attributes:
        job_log: the job log. Its methods that write are for `write`.
    """

    def __init__(self, path: Path) -> None:
        self.job_log = JobLog(path)
        self._thread: ThreadPoolExecutor | None = None

    async def open(self, node_id: str) -> None:
        """Open it.

        Args:
            node_id: the node, for errors.

        Raises:
            BatchError: when it cannot be used, or another operator of this process has it.
        """
        path = self.job_log.path
        if path in _open:
            raise BatchError(
                f"two operators with batch_api are in node {node_id}: give each a node of its own, or batch_api to one "
                "of them"
            )
        _open.add(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="llm-jobs")
        try:
            await asyncio.wrap_future(self._thread.submit(self.job_log.open))
        except BaseException:
            await self.close()
            raise

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Do something that writes to it. What has begun is done, also when whoever asked is cancelled.

        Raises:
            BatchError: when it fails, or the job log is not open.
        """
        if self._thread is None:
            raise BatchError("the job log is not open")
        return await asyncio.shield(asyncio.wrap_future(self._thread.submit(work, *args)))

    async def close(self, useless: Iterable[bytes] = ()) -> None:
        """Close it. May be called more than once.

        Args:
            useless: what stands for calls whose answers are to be asked for anew the next time.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        forgotten = list(useless)
        if forgotten:
            with contextlib.suppress(BatchError):  # they are answered as before, at worst
                await asyncio.wrap_future(thread.submit(self.job_log.forget, forgotten))
        await asyncio.wrap_future(thread.submit(self.job_log.close))
        thread.shutdown(wait=False)
        _open.discard(self.job_log.path)
