"""Plain operators in processes of their own: for calls that keep a core busy.

Each thread of a pool has at most one worker process at a time, and workers it one task at a time: so a process that
dies takes exactly one task with it, and there is nothing shared that could break. A pool of the kind that libraries
have breaks as a whole, does not reach into a call that runs (to cancel it, to hear its log), and is slower to start.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any

from llm_datagen.errors import WorkerDiedError
from llm_datagen.executors.base import ResultTarget
from llm_datagen.executors.process.crash_isolation import CrashIsolation
from llm_datagen.executors.process.handle import WorkerProcess
from llm_datagen.executors.process.setup import WorkerSetup
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.thread_pool import WorkerPool
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Block

TASK_SECONDS = 0.04
"""How long a task of a cheap operator should take: to hand one over costs about half a millisecond."""

SLICE_SECONDS = 0.1
"""How long a process goes on through a task before it hands the rest back."""

SPARE_SECONDS = 0.01
"""How long a task waits for a process that is busy, before one more is started."""

GIVE_UP_SECONDS = 1.0
"""How long threads whose processes were killed have to end."""


class ProcessExecutor:
    """Runs tasks in worker processes; a process is started only when all others are busy.

    `setup` and `teardown` are called once in each process.

    Args:
        name: the node's id.
        packed: the operator, and the codec of the output; see `pickling.pack`.
        processing: how rows are processed. The processes make their own from its settings.
        target: where results go.
        workers: processes at most.
        may_repeat: whether rows that were in a process that died may be called again.
    """

    spare_tasks = 0
    task_seconds = TASK_SECONDS
    is_gil_bound = False

    def __init__(
        self,
        name: str,
        packed: bytes,
        processing: Processing,
        target: ResultTarget,
        workers: int,
        *,
        may_repeat: bool = True,
    ) -> None:
        self._processing = processing
        self._target = target
        self._may_repeat = may_repeat
        self._setup = WorkerSetup.of(processing, packed, SLICE_SECONDS)
        self._pool = WorkerPool(workers, f"datagen-worker-{name}")
        self._tasks: set[Future[None]] = set()
        self._changed = threading.Condition()
        self._idle: list[WorkerProcess] = []
        self._workers: set[WorkerProcess] = set()
        self._size = self._threads = workers
        self._busy = 0  # threads that have a process, or are about to
        self._retiring = 0
        self._error: BaseException | None = None  # of the first process that retired and whose teardown failed
        self._is_given_up = False

    def start(self) -> None:
        """Start the first process, which loads the operator and calls its `setup`."""
        self._give_back(self._start_worker())

    def submit(self, task: int, block: Block) -> None:
        """Run the operator over `block` in a process."""
        self._submit(self._work, task, block)

    def submit_end(self, task: int, rows: tuple[int, int]) -> None:
        """Never called: an operator that has a `finish` is not sent to processes; see `pickling.check_operator`."""
        raise AssertionError(f"task {task}: an operator in processes has no finish")

    def resize(self, workers: int) -> None:
        """Have another number of processes, at most; those that are too many end when they have nothing to do.

        Threads only get more: a process must not outlive the thread that has started it.
        """
        with self._changed:
            self._size = workers
            self._threads = max(workers, self._threads)
            self._changed.notify_all()
            surplus = [self._idle.pop() for _ in range(min(self._too_many(), len(self._idle)))]
            self._retiring += len(surplus)
        self._pool.resize(self._threads)
        for worker in surplus:
            self._submit(self._retire, worker)

    def deliver(self, task: int, result: BlockResult) -> None:
        """Put a result into the target, on a thread of the pool."""
        self._submit(self._target.put, task, result)

    def _submit(self, work: Callable[..., None], *args: Any) -> None:
        future = self._pool.submit(work, *args)
        self._tasks.add(future)
        future.add_done_callback(self._tasks.discard)

    def left(self, task: int) -> int:
        """Return 0: it is not known how far a process has come."""
        return 0

    def cut(self, task: int) -> int | None:
        """Return None: rows that were handed to a process stay there."""
        return None

    def stop(self, *, wait: bool = True) -> None:
        """Wait for what runs, have `teardown` called in each process, and end them; or kill them.

        Raises:
            BaseException: what the first `teardown` that failed raised; all have ended nevertheless.
        """
        if not wait:
            with self._changed:
                self._is_given_up = True
                self._changed.notify_all()
                workers = list(self._workers)
            for worker in workers:
                worker.kill()
        left = wait_for(self._tasks.copy(), None if wait else GIVE_UP_SECONDS).not_done
        with self._changed:
            idle, self._idle = self._idle, []
            self._workers.difference_update(idle)
        try:
            if wait:
                _end(idle)
        finally:
            for worker in idle:
                worker.close()
            self._pool.stop(wait=not left)
        if wait and self._error is not None:
            raise self._error

    def _work(self, task: int, block: Block) -> None:
        isolation = CrashIsolation(self._processing, block, may_repeat=self._may_repeat)
        try:
            self._run(isolation)
        except BaseException as error:  # noqa: BLE001 - there is no process to be had; this must not leave the thread
            if not self._is_given_up:
                isolation.end(error)
        self._target.put(task, isolation.result())

    def _run(self, isolation: CrashIsolation) -> None:
        while True:
            with self._slot():  # before `next`: whoever waits for it may be paused or cancelled meanwhile
                part = None if self._is_given_up else isolation.next()
                if part is None:
                    return
                self._run_part(isolation, part)

    def _run_part(self, isolation: CrashIsolation, part: Block) -> None:
        worker = self._take()
        if self._processing.is_interrupted():  # it has taken its time to start
            self._give_back(worker)
            return
        try:
            result = worker.run(part)
        except WorkerDiedError as error:
            self._lose(worker)
            if not self._is_given_up:
                isolation.died(error)
        except BaseException:
            self._lose(worker)
            raise
        else:
            self._give_back(worker)
            isolation.came(result)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """Be one of the threads that may have a process at once."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self._size or self._is_given_up)
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    # Processes.

    def _take(self) -> WorkerProcess:
        """Return a process that is idle; if there is none, and none soon, a new one."""
        with self._changed:
            while self._changed.wait_for(lambda: self._idle, SPARE_SECONDS if self._workers else 0):
                worker = self._idle.pop()
                if worker.is_alive():
                    return worker
                self._workers.discard(worker)  # killed while it had nothing to do: nothing is lost
                worker.close()
        return self._start_worker()

    def _start_worker(self) -> WorkerProcess:
        worker = WorkerProcess(self._setup, self._processing)
        with self._changed:
            self._workers.add(worker)
            if self._is_given_up:
                worker.kill()
        try:
            worker.get_ready()
        except BaseException:
            self._lose(worker)
            raise
        return worker

    def _give_back(self, worker: WorkerProcess) -> None:
        with self._changed:
            is_surplus = bool(self._too_many())
            if is_surplus:
                self._retiring += 1
            else:
                self._idle.append(worker)
                self._changed.notify_all()
        if is_surplus:
            self._retire(worker)

    def _too_many(self) -> int:
        """Return how many processes there are beyond what there may be."""
        return max(0, len(self._workers) - self._retiring - self._size)

    def _retire(self, worker: WorkerProcess) -> None:
        """End a process whose place is gone."""
        try:
            _end([worker])
        except BaseException as error:  # noqa: BLE001 - of its teardown, or it has died: its rows are done
            self._error = self._error or error
        with self._changed:
            self._retiring -= 1
            self._workers.discard(worker)
        worker.close()

    def _lose(self, worker: WorkerProcess) -> None:
        with self._changed:
            self._workers.discard(worker)
        worker.close()


def _end(workers: list[WorkerProcess]) -> None:
    """End processes; all at once, and each whatever becomes of the others."""
    with contextlib.ExitStack() as each:
        for worker in workers:
            each.callback(worker.wait_for_end)
        for worker in workers:
            worker.end()
