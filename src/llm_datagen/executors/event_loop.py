"""Async operators: an event loop on one thread, and as many calls at once as the node allows."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections import deque
from typing import Any

from llm_datagen.executors.base import TASK_SECONDS, ResultTarget, spare_tasks_of
from llm_datagen.executors.claims import ClaimedTasks, Claims
from llm_datagen.executors.end_of_source import run_end, run_end_async
from llm_datagen.executors.kernel import run_block_async
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.state_watch import StateWatch
from llm_datagen.executors.thread_pool import LoopThreads, WorkerPool
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Block

PATIENCE_SECONDS = 5.0
"""How long the end of a run waits for tasks that the operator has made and left behind."""

GIVE_UP_SECONDS = 1.0
"""How long calls that are given up have to end, after they were cancelled."""

MAX_THREADS = 32
"""Threads of a loop, for `asyncio.to_thread`, at most."""


class EventLoopExecutor(ClaimedTasks):
    """Runs tasks on an event loop of its own, which the target never blocks.

    Args:
        name: the node's id, for the thread's name.
        operator: the operator, for its `setup` and `teardown`.
        processing: how rows are processed.
        target: where results go; when it is full, a thread waits in place of the loop.
        workers: tasks at once, at most.
    """

    task_seconds = TASK_SECONDS
    is_gil_bound = False

    def __init__(self, name: str, operator: Any, processing: Processing, target: ResultTarget, workers: int) -> None:
        super().__init__()
        self.spare_tasks = spare_tasks_of(workers)
        self._workers = workers
        self._operator = operator
        self._processing = processing
        self._target = target
        self._waiting_room = WorkerPool(workers, f"datagen-delivery-{name}")
        self._loop: asyncio.AbstractEventLoop
        # A daemon: a call that blocks the loop must not keep the process from ending.
        self._thread = threading.Thread(target=self._run_loop, name=f"datagen-loop-{name}", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._calling = 0
        self._waiting: deque[tuple[int, Block, Claims]] = deque()
        self._watch = StateWatch(operator, processing.ctx)
        self._is_set_up = False
        self._is_stopping = False
        self._is_given_up = False

    def start(self) -> None:
        """Start the loop and call `setup` on it."""
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(LoopThreads(MAX_THREADS, f"{self._thread.name}-thread"))
        try:
            self._thread.start()
        except BaseException:
            self._loop.close()
            raise
        self._call("setup")
        self._watch.begin()
        self._is_set_up = True

    def submit(self, task: int, block: Block) -> None:
        """Run the operator over `block` as a task of the loop."""
        claims = self._claim(task, len(block.records))
        self._loop.call_soon_threadsafe(self._begin, (task, block, claims))

    def submit_end(self, task: int, rows: tuple[int, int]) -> None:
        """Ask the operator for what it has left: on the loop, or, when its `finish` is plain, on a thread."""
        if self._processing.call.is_finish_async:
            self._loop.call_soon_threadsafe(self._begin_end, task, rows)
        else:
            self._waiting_room.submit(self._work_end, task, rows)

    def _begin_end(self, task: int, rows: tuple[int, int]) -> None:
        found = self._loop.create_task(self._end(task, rows))
        self._tasks.add(found)
        found.add_done_callback(self._tasks.discard)

    async def _end(self, task: int, rows: tuple[int, int]) -> None:
        self.deliver(task, await run_end_async(self._processing, rows))

    def _work_end(self, task: int, rows: tuple[int, int]) -> None:
        self._target.put(task, run_end(self._processing, rows))

    def resize(self, workers: int) -> None:
        """Have another number of tasks on the loop at once."""
        self.spare_tasks = spare_tasks_of(workers)
        self._waiting_room.resize(workers)
        self._workers = workers
        self._loop.call_soon_threadsafe(self._begin)

    def deliver(self, task: int, result: BlockResult) -> None:
        """Put a result into the target, on a thread that may wait."""
        self._waiting_room.submit(self._target.put, task, result)

    def stop(self, *, wait: bool = True) -> None:
        """Wait for what runs, or cancel it; call `teardown` on the loop, and join the threads.

        A loop that is given up and does not come back is left behind, without `teardown`.
        """
        patience = None if wait else GIVE_UP_SECONDS
        try:
            if not wait:
                self._is_given_up = True
                self._loop.call_soon_threadsafe(self._cancel_all)
            if self._is_set_up:
                self._call("teardown", patience)
        finally:
            self._is_stopping = True
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(patience)
            self._waiting_room.stop(wait=wait)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            while not self._is_stopping:
                # In a task that the operator made, these end the loop (H9). Whoever awaits that task gets them, too.
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    self._loop.run_forever()
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                self._loop.run_until_complete(self._tidy_up())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()

    async def _tidy_up(self) -> None:
        """End what the operator has left running."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=PATIENCE_SECONDS)
        await self._loop.shutdown_asyncgens()
        if not self._is_given_up:
            await self._loop.shutdown_default_executor()

    def _call(self, method: str, timeout: float | None = None) -> None:
        async def call() -> None:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            found = getattr(self._operator, method, None)
            if method == "teardown":
                self._watch.end()
            result = None if found is None else found()
            if inspect.isawaitable(result):
                await result

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout)

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _begin(self, *tasks: tuple[int, Block, Claims]) -> None:
        """Start tasks, and those that have waited, as many as there may be at once."""
        self._waiting.extend(tasks)
        while self._waiting and self._calling < self._workers:
            self._calling += 1
            task = self._loop.create_task(self._work(*self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, number: int, block: Block, claims: Claims) -> None:
        result = await run_block_async(self._processing, block, claims)
        # From here on nothing is awaited: what is done must be delivered, even if the operator has cancelled its task.
        self._end_claims(number)
        if self._target.try_put(number, result):
            self._delivered()
        else:
            self._waiting_room.submit(self._put, number, result)

    def _put(self, number: int, result: BlockResult) -> None:
        """Wait in place of the loop."""
        self._target.put(number, result)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: that was the last one
            self._loop.call_soon_threadsafe(self._delivered)

    def _delivered(self) -> None:
        """A task has ended, and its results are where they belong: another one may begin."""
        self._calling -= 1
        self._begin()
