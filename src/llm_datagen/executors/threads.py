"""Plain operators: a pool of threads. A thread is started only when all others are busy."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

from llm_datagen.executors.base import TASK_SECONDS, ResultTarget, spare_tasks_of
from llm_datagen.executors.claims import ClaimedTasks, Claims
from llm_datagen.executors.end_of_source import run_end
from llm_datagen.executors.kernel import run_block
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.state_watch import StateWatch
from llm_datagen.executors.thread_pool import WorkerPool
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Block


class ThreadExecutor(ClaimedTasks):
    """Runs tasks on threads, which the target may block.

    Args:
        name: the node's id, for the threads' names.
        operator: the operator, for its `setup` and `teardown`.
        processing: how rows are processed.
        target: where results go.
        workers: threads at most.
    """

    task_seconds = TASK_SECONDS
    is_gil_bound = True

    def __init__(self, name: str, operator: Any, processing: Processing, target: ResultTarget, workers: int) -> None:
        super().__init__()
        self.spare_tasks = spare_tasks_of(workers)
        self._operator = operator
        self._processing = processing
        self._target = target
        self._pool = WorkerPool(workers, f"datagen-worker-{name}")
        self._tasks: set[Future[None]] = set()
        self._is_set_up = False
        self._watch = StateWatch(operator, processing.ctx)

    def start(self) -> None:
        """Call `setup`, on a worker thread."""
        setup = getattr(self._operator, "setup", None)
        if setup is not None:
            self._pool.submit(setup).result()
        self._watch.begin()
        self._is_set_up = True

    def submit(self, task: int, block: Block) -> None:
        """Run the operator over `block` on a thread of the pool."""
        claims = self._claim(task, len(block.records))
        self._begin(self._work, task, block, claims)

    def submit_end(self, task: int, rows: tuple[int, int]) -> None:
        """Ask the operator for what it has left, on a thread of the pool."""
        self._begin(self._work_end, task, rows)

    def _begin(self, work: Callable[..., None], *args: Any) -> None:
        future = self._pool.submit(work, *args)
        self._tasks.add(future)
        future.add_done_callback(self._tasks.discard)

    def resize(self, workers: int) -> None:
        """Have another number of threads; those that are too many end when they have nothing to do."""
        self.spare_tasks = spare_tasks_of(workers)
        self._pool.resize(workers)

    def deliver(self, task: int, result: BlockResult) -> None:
        """Put a result into the target, on a thread of the pool."""
        self._pool.submit(self._target.put, task, result)

    def _work(self, task: int, block: Block, claims: Claims) -> None:
        result = run_block(self._processing, block, claims)
        self._end_claims(task)
        self._target.put(task, result)

    def _work_end(self, task: int, rows: tuple[int, int]) -> None:
        self._target.put(task, run_end(self._processing, rows))

    def stop(self, *, wait: bool = True) -> None:
        """Wait for what runs, call `teardown`, and join the threads; or leave behind those that are stuck."""
        try:
            if wait:
                wait_for(self._tasks.copy())
            if self._is_set_up and wait:
                self._watch.end()
            teardown = getattr(self._operator, "teardown", None)
            if teardown is not None and self._is_set_up and wait:
                self._pool.submit(teardown).result()
        finally:
            self._pool.stop(wait=wait)
