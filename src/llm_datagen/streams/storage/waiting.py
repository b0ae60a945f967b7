"""Waits for a store or a hub that can be cut short: the thread of an actor has an `Interrupt`, which a cancel sets.

A thread without one, such as that of a user who reads a stream, waits as long as it takes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import TypeVar

T = TypeVar("T")

_current: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)


class Interrupted(BaseException):
    """Raised in a thread that was told to wait no longer, out of what it waits for.

    Like KeyboardInterrupt, it is no Exception: it is not for those who handle what has gone wrong.
    """


class Interrupt:
    """Says to a thread that it shall not wait any longer. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: float | None = None
        self._listeners: list[Callable[[], None]] = []

    def hurry(self, seconds: float) -> None:
        """Let no request take longer than so many seconds from now on, and let none be made again."""
        with self._lock:
            self._seconds = seconds if self._seconds is None else min(seconds, self._seconds)
            for tell in self._listeners:
                tell()

    @property
    def seconds(self) -> float | None:
        """How long a request may take; None: as long as it takes."""
        return self._seconds

    def use(self) -> None:
        """Be what interrupts the calling thread, and those that it starts by `inherited`."""
        _current.set(self)

    def sleep(self, seconds: float) -> None:
        """Wait before something is tried again. Raises Interrupted when it shall not be."""
        is_told = threading.Event()
        with self._telling(is_told.set):
            is_told.wait(seconds)
        if self._seconds is not None:
            raise Interrupted

    def run_aside(self, call: Callable[[], T]) -> T:
        """Make a call in a thread of its own, which is left to itself when the call takes too long.

        Raises:
            Interrupted: then.
        """
        is_news = threading.Event()
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                errors.append(error)
            is_news.set()

        # Its context is that of the caller, so that `check` tells it, too, when nobody waits for it any more.
        thread = threading.Thread(target=copy_context().run, args=(work,), name="store-request", daemon=True)
        with self._telling(is_news.set):
            thread.start()
            is_news.wait()
        thread.join(None if results or errors else self._seconds)
        if errors:
            raise errors[0]
        if not results:
            raise Interrupted
        return results[0]

    @contextlib.contextmanager
    def _telling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Have `listener` called when there is no time left; at once, when there is none already."""
        with self._lock:
            self._listeners.append(listener)
            if self._seconds is not None:
                listener()
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)


def interrupt() -> Interrupt | None:
    """Return what interrupts this thread; None: nothing does."""
    return _current.get()


def sleep(seconds: float) -> None:
    """Wait before something is tried again. Raises Interrupted when it shall not be."""
    found = _current.get()
    if found is None:
        time.sleep(seconds)
    else:
        found.sleep(seconds)


def check() -> None:
    """Raise Interrupted when this thread shall not wait any longer."""
    found = _current.get()
    if found is not None and found.seconds is not None:
        raise Interrupted


def aside(call: Callable[[], T]) -> T:
    """Make a call that may take long, and that calls `check` now and then if it can; see `Interrupt.run_aside`."""
    found = _current.get()
    return call() if found is None else found.run_aside(call)


def inherited(call: Callable[..., T]) -> Callable[..., T]:
    """Return `call` as it is to be made once, by another thread: what interrupts this one interrupts that, too."""
    context = copy_context()
    return lambda *args: context.run(call, *args)
