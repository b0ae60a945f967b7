"""Signal handlers for the process that installs them, and not for the processes that are forked from it.

A forked child inherits handlers. One that only tells this process's threads would make it deaf there: `terminate()` of
a `multiprocessing.Pool` in an operator would be waited for without end.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_before: dict[int, Any] = {}
"""What was there before, by signal."""


def install(number: int, handler: Callable[[int, FrameType | None], Any]) -> None:
    """Install a handler in this process; a forked child gets back what was there before. Main thread only.

    One that Python did not install cannot be put back by it, so it stays.
    """
    before = signal.getsignal(number)
    if before is not None:
        _before[number] = before
        signal.signal(number, handler)


def put_back() -> None:
    """Put back what was there before. Main thread only: that is the one that forked, too, in a child."""
    for number, handler in list(_before.items()):
        signal.signal(number, handler)
        del _before[number]  # not before: who forks between the two must find it


_forking = threading.local()


def _before_fork() -> None:
    """Hold signals back in the thread that forks: one that came to the child before `put_back` would be lost there."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _before) if _before else None


def _after_fork() -> None:
    mask, _forking.mask = getattr(_forking, "mask", None), None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _in_child() -> None:
    put_back()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
