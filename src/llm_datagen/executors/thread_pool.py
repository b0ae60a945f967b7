"""A pool of threads that can be left behind.

The standard library's pool joins its threads when the interpreter ends, so a call that never returns would keep a
process from ending, even after `grace`. These threads are daemons; `stop` joins them unless they are to be left behind.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...]]


class WorkerPool:
    """Runs functions on threads; a thread is started only when all others are busy. Any thread may submit.

    Args:
        size: threads, at most.
        name: the beginning of the threads' names.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._staying = 0  # threads that were started, less those that were told to end
        self._started = 0
        self._idle = 0  # threads that wait, less the jobs that wait for them
        self._is_stopped = False

    def submit(self, func: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run ``func(*args)`` on a thread; the future has its result or its exception."""
        future: Future[Any] = Future()
        with self._lock:
            if self._is_stopped:  # a call that was left behind has come back: this thread ends with its job
                job = future, func, args
                threading.Thread(target=_do, args=job, name=f"{self._name}_late", daemon=True).start()
                return future
            if self._idle > 0 or self._staying >= self._size:
                self._idle -= 1
            else:
                thread = threading.Thread(target=self._work, name=f"{self._name}_{self._started}", daemon=True)
                thread.start()
                self._threads.append(thread)
                self._staying += 1
                self._started += 1
            self._jobs.put((future, func, args))
        return future

    def resize(self, size: int) -> None:
        """Have another number of threads, at most. Those that are too many end, each when it is its turn.

        A thread that is to end is given that as a job, behind those that were submitted: so what is submitted from now
        on runs on `size` threads.
        """
        with self._lock:
            self._size = size
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            while self._staying > size and not self._is_stopped:
                self._staying -= 1
                self._idle -= 1
                self._jobs.put(None)

    def stop(self, *, wait: bool) -> None:
        """End the threads when they have done what was submitted; wait for that, or leave them behind."""
        with self._lock:
            self._is_stopped = True
            threads = self._threads
        for _ in threads:
            self._jobs.put(None)
        if wait:
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            _do(*job)
            del job
            with self._lock:
                self._idle += 1


def _do(future: Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - it is for whoever asks the future
            future.set_exception(error)


class LoopThreads(ThreadPoolExecutor):
    """What `asyncio.to_thread` runs on: a `WorkerPool`, in the shape that an event loop asks for.

    Args:
        size: threads, at most.
        name: the beginning of the threads' names.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(max_workers=size)  # which starts no thread
        self._pool = WorkerPool(size, name)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn(*args, **kwargs)`` on a thread."""
        return self._pool.submit(partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads."""
        self._pool.stop(wait=wait)
