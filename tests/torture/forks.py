"""Processes that are cheap to kill: children of a driver that has imported the engine and has a single thread.

A fork takes some milliseconds, a start of Python with the imports a third of a second. Forking is safe because the
driver never has a thread, an actor or a lock of ours: all of that begins in the child.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import structlog  # noqa: F401 - before any fork: each child would import it

HANG_SECONDS = 25.0
"""A child that takes longer hangs: what it does takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended.

    Attributes:
        how: "done"; "killed" (by a signal, its own or ours); "canceled" (ended in order because of SIGTERM); "failed"
            (as `PlannedFailure` says); "refused" (by a DatagenError that names a file); "error"; or "hang".
        seconds: how long it lived.
        text: what it said last: its traceback, or the stacks of all its threads.
    """

    how: str
    seconds: float
    text: str = ""


class PlannedFailure(Exception):
    """Raised by `work` when it failed as it was meant to."""


REFUSED_CODE = 8
"""How a child exits when what it found was refused."""

_CODES = {0: "done", 7: "failed", REFUSED_CODE: "refused", 128 + signal.SIGTERM: "canceled"}


def fork(
    work: Callable[[], None],
    scratch: Path,
    *,
    kill_after: float | None = None,
    kill_with: int = signal.SIGKILL,
    hangs_after: float = HANG_SECONDS,
) -> Death:
    """Run `work` in a child and wait for its end.

    Args:
        work: what to do; what it raises makes the death an "error".
        scratch: a file for what the child says.
        kill_after: seconds after which it is killed; None lets it live.
        kill_with: the signal.
        hangs_after: seconds after which it hangs.
    """
    child = Child(work, scratch)
    death = None if kill_after is None else child.wait(kill_after)
    if death is None and kill_after is not None:
        child.send(kill_with)
    return death or child.end(hangs_after)


class Child:
    """A child that runs.

    Args:
        work: what it does; what that raises makes the death an "error".
        scratch: a file for what it says.

    Attributes:
        pid: of its process.
    """

    def __init__(self, work: Callable[[], None], scratch: Path) -> None:
        if threading.active_count() != 1:
            raise RuntimeError(f"a driver must have one thread, and has {threading.enumerate()}")
        scratch.write_bytes(b"")
        self._scratch = scratch
        self._sent: set[int] = set()
        self._began = time.perf_counter()
        self.pid = os.fork()
        if self.pid == 0:
            _live(work, scratch)

    def send(self, number: int) -> None:
        """Send it a signal. It must not have been waited for."""
        self._sent.add(number)
        os.kill(self.pid, number)

    def wait(self, seconds: float) -> Death | None:
        """Wait for its end; None when it still lives after so many seconds."""
        if not self.is_over(seconds):
            return None
        status = os.waitpid(self.pid, 0)[1]
        lived = time.perf_counter() - self._began
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            how = "killed" if number in {signal.SIGKILL, *self._sent} else "error"
            return Death(how, lived, f"signal {number}")
        return Death(_CODES.get(os.WEXITSTATUS(status), "error"), lived, self._scratch.read_text())

    def is_over(self, seconds: float = 0.0) -> bool:
        """Return whether it has ended, after so many seconds at most. It can still be waited for."""
        with contextlib.ExitStack() as stack:
            fd = os.pidfd_open(self.pid)
            stack.callback(os.close, fd)
            return bool(select.select([fd], [], [], max(0.0, seconds))[0])

    def end(self, hangs_after: float = HANG_SECONDS) -> Death:
        """Wait for its end; after so many seconds, it hangs, and is killed."""
        if (death := self.wait(hangs_after)) is not None:
            return death
        os.kill(self.pid, signal.SIGUSR1)  # its stacks
        time.sleep(0.3)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return Death("hang", time.perf_counter() - self._began, self._scratch.read_text())


def serve(start: Callable[[], AbstractContextManager[str]]) -> tuple[int, str]:
    """Fork a server that lives until the driver ends, or SIGTERM; return its pid, and its address.

    Args:
        start: makes, in the child, a context in which it serves; entered, it gives the address.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)  # a Ctrl+C is for the driver
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            with start() as address:
                os.write(write, address.encode() + b"\n")
                driver = os.getppid()
                while os.getppid() == driver:
                    threading.Event().wait(2.0)
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as said:
        address = said.readline().strip()
    assert address, "a server did not start"
    return pid, address


def _live(work: Callable[[], None], scratch: Path) -> None:
    code = 1
    try:
        file = scratch.open("w")
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            work()
            code = 0
        except PlannedFailure:
            code = 7
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:  # noqa: BLE001 - a child must never come back into the driver's code
            file.write(traceback.format_exc())
        file.flush()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
