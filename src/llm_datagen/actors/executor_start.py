"""The start of a node's workers, on a thread of its own: a `setup` that hangs must not delay a cancel."""

from __future__ import annotations

from collections.abc import Callable

from llm_datagen.executors.base import Executor
from llm_datagen.executors.thread_pool import WorkerPool


class ExecutorStart:
    """Starts an executor on a thread of its own. Used by the node's thread.

    The thread lives until `stop`: a worker process that it starts must not outlive it.

    Args:
        executor: what is started; the operator's `setup` runs.
        node_id: the node's id, for the thread's name.

    Attributes:
        is_on: whether it goes on.
        is_resized: whether the number of workers was changed meanwhile.
    """

    def __init__(self, executor: Executor, node_id: str) -> None:
        self._executor = executor
        self._pool = WorkerPool(1, f"datagen-start-{node_id}")
        self.is_on = False
        self.is_resized = False

    def begin(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Start the executor; `on_end` is called, on that thread, with what `setup` raised."""
        self.is_on = True
        self._pool.submit(self._executor.start).add_done_callback(lambda future: on_end(future.exception()))

    def stop(self, *, wait: bool) -> None:
        """End the thread; or leave it behind, when `setup` hangs."""
        self._pool.stop(wait=wait)
