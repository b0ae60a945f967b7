"""Processes of Python that work for this one: how they are started, and what is said of their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from llm_datagen.executors import signals
from llm_datagen.executors.process.channel import Channel

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl+C goes to every process of a terminal, and SIGTERM to every process of a service: the engine decides."""

PATIENCE_SECONDS = 5.0
"""How long a process that has said goodbye may take to end."""

_START = "import sys; sys.path.insert(0, {!r}); from {} import main; main()"
_PR_SET_PDEATHSIG = 1


def start(module: str, fds: tuple[int, int], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process at the other end of a channel. On Linux, it is killed when the thread that starts it ends.

    Args:
        module: the module whose `main` it runs; its arguments are the two pipes and the id of this process.
        fds: the two pipes, which are closed here.
        options: of `subprocess.Popen`.
    """
    code = _START.format(str(Path(__file__).parents[3]), module)
    command = [sys.executable, "-c", code, *map(str, fds), str(os.getpid())]
    # A new process inherits the mask: no signal reaches it before it can ignore it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=fds, **options)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for fd in fds:
            os.close(fd)


def channel_of_this_process() -> Channel:
    """Return the channel to who has started this process by `start`: it dies with that one, and leaves it signals."""
    read_fd, write_fd, parent = map(int, sys.argv[1:])
    for number in SIGNALS:
        # Not SIG_IGN: programs that an operator starts would inherit that.
        signals.install(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for fd in (read_fd, write_fd):
        os.set_inheritable(fd, False)
    die_with(parent)
    channel = Channel(read_fd, write_fd)
    os.register_at_fork(after_in_child=channel.close)  # a child of an operator must not seem to be this process
    return channel


def how_it_ended(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a process that has closed its pipes, and return how it ended."""
    try:
        status = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:  # it lives, and has closed the pipes
        process.kill()
        status = process.wait()
    if status >= 0:
        return f"has ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    memory = " (which is what the system does when memory is short)" if -status == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"


def die_with(parent: int) -> None:
    """Have this process killed when its parent dies: at once, also within a call that never lets a thread run."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before that
