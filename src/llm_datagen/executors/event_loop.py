"""Async operators: an event loop on one thread, and as many calls at once as the node allows."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections import deque
from typing import Any

from llm_datagen.executors.base import TASK_SECONDS, ResultTarget
from llm_datagen.executors.claims import ClaimedTasks, Claims
from llm_datagen.executors.end_of_source import run_end, run_end_async
from llm_datagen.executors.kernel import run_block_async
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.state_watch import StateWatch
from llm_datagen.executors.thread_pool import LoopThreads, WorkerPool
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators.before_delivery import Step, before_delivery
from llm_datagen.streams import Block

PATIENCE_SECONDS = 5.0
"""How long the end of a run waits for tasks that the operator has made and left behind."""

GIVE_UP_SECONDS = 1.0
"""How long calls that are given up have to end, after they were cancelled."""

GATHER_SECONDS = 0.05
"""How long results wait for others, to be delivered with them, while there are tasks that can begin meanwhile."""

GATHER_BYTES = 1024 * 1024
"""Results that are gathered are delivered when they take so many bytes, however few they are."""

MAX_SPARE_TASKS = 64
"""Tasks that wait for the loop, at most: so many that none of its calls waits for the node."""

MIN_CALLS_WITH_SPARE_TASKS = 4
"""With fewer calls at once, no task waits for the loop: there is little to gather."""

MAX_THREADS = 32
"""Threads of a loop, for `asyncio.to_thread`, at most."""


def spare_tasks_of_loop(workers: int) -> int:
    """Return how many tasks may wait for a loop that makes so many calls at once."""
    return min(workers, MAX_SPARE_TASKS) if workers >= MIN_CALLS_WITH_SPARE_TASKS else 0


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
        self.spare_tasks = spare_tasks_of_loop(workers)
        self._workers = workers
        self._operator = operator
        self._processing = processing
        self._target = target
        self._waiting_room = WorkerPool(workers, f"datagen-delivery-{name}")
        self._loop: asyncio.AbstractEventLoop
        # A daemon: a call that blocks the loop must not keep the process from ending.
        self._thread = threading.Thread(target=self._run_loop, name=f"datagen-loop-{name}", daemon=True)
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._calling = 0
        self._held_back = 0  # results that wait for the target, each in the place of a call
        self._waiting: deque[tuple[int, Block, Claims]] = deque()
        self._is_told = False  # whether the loop will look at what waits
        self._ended: list[tuple[int, BlockResult]] = []
        self._ended_bytes = 0
        self._steps: set[Step] = set()  # before these are delivered
        self._leaving: set[asyncio.Task[None]] = set()
        self._left = 0  # results whose steps are being done
        self._delivery: asyncio.Handle | None = None
        self._is_gathering = False  # whether that waits for more results
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
        self._waiting.append((task, block, self._claim(task, len(block.records))))
        if not self._is_told:  # a call from another thread costs a write to the loop's pipe
            self._is_told = True
            self._loop.call_soon_threadsafe(self._look)

    def submit_end(self, task: int, rows: tuple[int, int]) -> None:
        """Ask the operator for what it has left: on the loop, or, when its `finish` is plain, on a thread."""
        if self._processing.call.is_finish_async:
            self._loop.call_soon_threadsafe(self._begin_end, task, rows)
        else:
            self._waiting_room.submit(self._work_end, task, rows)

    def _begin_end(self, task: int, rows: tuple[int, int]) -> None:
        self._tasks[task] = self._loop.create_task(self._end(task, rows))

    async def _end(self, task: int, rows: tuple[int, int]) -> None:
        self.deliver(task, await run_end_async(self._processing, rows))
        del self._tasks[task]

    def _work_end(self, task: int, rows: tuple[int, int]) -> None:
        self._target.put(task, run_end(self._processing, rows))

    def resize(self, workers: int) -> None:
        """Have another number of tasks on the loop at once."""
        self.spare_tasks = spare_tasks_of_loop(workers)
        self._waiting_room.resize(workers)
        self._workers = workers
        self._loop.call_soon_threadsafe(self._look)

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
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self._deliver()
            while self._leaving:
                await asyncio.gather(*self._leaving, return_exceptions=True)
            found = getattr(self._operator, method, None)
            if method == "teardown":
                self._watch.end()
            result = None if found is None else found()
            if inspect.isawaitable(result):
                await result

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout)

    def _cancel_all(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _look(self) -> None:
        """Start what waits, as many as there may be at once."""
        self._is_told = False  # first: what is submitted from now on, the loop is told of again
        self._begin()

    def _has_room(self) -> bool:
        """Return whether another call may begin. A result has the place of its call, but for few that are gathered."""
        results = max(0, len(self._ended) + self._left - self.spare_tasks) + self._held_back
        return self._calling + results < self._workers

    def _begin(self) -> None:
        while self._waiting and self._has_room():
            self._calling += 1
            number, block, claims = self._waiting.popleft()
            self._tasks[number] = self._loop.create_task(self._work(number, block, claims))

    async def _work(self, number: int, block: Block, claims: Claims) -> None:
        before_delivery.set(self._steps.add)
        result = await run_block_async(self._processing, block, claims)
        # From here on nothing is awaited: what is done must be delivered, even if the operator has cancelled its task.
        self._end_claims(number)
        del self._tasks[number]
        self._ended.append((number, result))
        self._ended_bytes += result.size
        self._calling -= 1
        if self._ended_bytes >= GATHER_BYTES or not self._target.gathers:
            self._deliver()
            return
        self._begin()
        # The node has to know, to hand out more, before none of those is left that wait for the loop.
        is_due = not self._waiting or 2 * len(self._ended) >= self.spare_tasks
        self._deliver_soon(0.0 if is_due else GATHER_SECONDS)

    def _deliver_soon(self, seconds: float) -> None:
        """Deliver what has ended after so many seconds, or earlier; 0: at the end of this turn of the loop."""
        due = self._delivery
        if due is None or (not seconds and self._is_gathering):
            if due is not None:
                due.cancel()
            self._is_gathering = bool(seconds)
            if seconds:
                self._delivery = self._loop.call_later(seconds, self._deliver)
            else:
                self._delivery = self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Deliver the results of what has ended, all in one."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        ended, self._ended = self._ended, []
        self._ended_bytes = 0
        if not self._steps:
            self._hand_over(ended)
            return
        steps = self._steps.copy()
        self._steps.clear()
        self._left += len(ended)
        leaving = self._loop.create_task(self._leave(ended, steps))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, ended: list[tuple[int, BlockResult]], steps: set[Step]) -> None:
        """Do what is to be done before these are delivered; whatever becomes of that, they are."""
        try:
            for step in steps:
                await step()
        finally:
            self._left -= len(ended)
            self._hand_over(ended)

    def _hand_over(self, ended: list[tuple[int, BlockResult]]) -> None:
        if ended and not self._target.try_put(ended):
            self._held_back += len(ended)
            for number, result in ended:
                self._waiting_room.submit(self._put, number, result)
        self._begin()

    def _put(self, number: int, result: BlockResult) -> None:
        """Wait in place of the loop."""
        self._target.put(number, result)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: that was the last one
            self._loop.call_soon_threadsafe(self._delivered)

    def _delivered(self) -> None:
        """A result is where it belongs: another task may begin."""
        self._held_back -= 1
        self._begin()
