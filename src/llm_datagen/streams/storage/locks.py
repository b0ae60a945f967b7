"""Locks on files, between processes: the kernel's, by `flock`. The only kind of lock that the package has.

A lock belongs to an open file, and ends when that is closed: by its holder, or with its process, whatever ends it.
A child that is forked would inherit the open file, and keep the lock when its parent is killed. So it closes all such
files before it does anything else, and no process is forked while such a file is opened or closed: neither between its
opening and the moment that it is known here, nor when Python takes it for closed and the kernel does not yet. Until the
child has closed it, or when a C library has forked, a lock that is released is free all the same: it is unlocked before
the file is closed. (What is started by `subprocess`, or spawned, inherits no file.)

A file system without locks is refused: a file that stands for a lock would stay behind a process that was killed.
"""

from __future__ import annotations

import errno
import glob
import os
import threading
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path
from weakref import WeakSet

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; there, nothing keeps two writers apart
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (
    "This file system has no locks, so nothing would keep two runs apart; put results_dir, and what is written, on one "
    "that has"
)
_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_TRY_SECONDS = 0.02

_lockable: WeakSet[_Lockable] = WeakSet()
_forking = threading.RLock()


class _Lockable(FileIO):
    """An open file for appending. No process is forked while it is opened or closed; closing it unlocks it."""

    def __init__(self, path: str) -> None:
        with _forking:
            super().__init__(path, "ab")
            _lockable.add(self)

    def close(self) -> None:
        with _forking:
            if fcntl is not None and not self.closed:
                with suppress(OSError):
                    fcntl.flock(self, fcntl.LOCK_UN)
            super().close()

    def close_inherited(self) -> None:
        """Close it in a forked child: it stays locked, for the parent."""
        super().close()


def open_lockable(path: str) -> FileIO:
    """Open a file for appending, such that it can be locked: a forked child closes it."""
    return _Lockable(path)


def lock_file(file: FileIO) -> None:
    """Lock an open file until it is closed; see `open_lockable`.

    Raises:
        BlockingIOError: when another one has it.
        OSError: with ENOLCK, when the file system has no locks.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise OSError(errno.ENOLCK, _NO_LOCKS, str(file.name)) from None
        raise


class HeldLock:
    """A lock that this process has.

    Args:
        file: the open file, locked.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def release(self) -> None:
        """Let others have it. May be called more than once."""
        self._file.close()

    def __enter__(self) -> HeldLock:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let others have it."""
        self.release()


def lock_path(path: str) -> HeldLock:
    """Lock the file at `path`, making it when it is not there.

    Raises:
        BlockingIOError: when another one has it.
        OSError: when it cannot be made, or the file system has no locks.
    """
    while True:
        file = open_lockable(path)
        try:
            lock_file(file)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path), os.fstat(file.fileno())):  # noqa: PTH116
                    return HeldLock(file)
        except BaseException:
            file.close()
            raise
        file.close()  # it was removed, or replaced, before it was locked: others lock the one that is there now


def wait_for_lock(path: str, seconds: float | None, *, every: float = _TRY_SECONDS) -> HeldLock | None:
    """Lock the file at `path`; wait while another one has it.

    Args:
        path: the file.
        seconds: how long, at most; None waits for ever.
        every: seconds between two tries.

    Returns:
        The lock; None when the time is over.

    Raises:
        OSError: when it cannot be made, or the file system has no locks.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        with suppress(BlockingIOError):
            return lock_path(path)
        if deadline is not None and time.monotonic() >= deadline:
            return None
        time.sleep(every)


def holder(path: str) -> str:
    """Return who has the lock of the file at `path`, for people: "process 7 (python job.py)"; empty if nobody knows.

    On Linux, of this user's processes. A child that was forked without Python is one, too.
    """
    with suppress(OSError):
        wanted = os.stat(path)  # noqa: PTH116 - a few thousand of them are compared
        for link in glob.iglob("/proc/[0-9]*/fd/*"):  # noqa: PTH207 - a Path each would be slow
            with suppress(OSError):
                if os.path.samestat(os.stat(link), wanted) and "FLOCK" in _about(link):  # noqa: PTH116
                    return described(int(link.split("/")[2]))
    return ""


def described(pid: int) -> str:
    """Return what a process of this machine is, for people."""
    if pid == os.getpid():
        return "this process"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"process {pid} ({command[:80]})" if command else f"process {pid}"


def _about(link: str) -> str:
    return Path(link.replace("/fd/", "/fdinfo/")).read_text()


def _close_all() -> None:
    """In a forked child: let go of what its parent has locked, and lock nothing of it again."""
    for file in list(_lockable):
        with suppress(OSError):
            file.close_inherited()
    _lockable.clear()
    _forking.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_close_all)
