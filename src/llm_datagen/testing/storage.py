"""A storage that fails as planned, in place of the real one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from io import FileIO
from typing import NamedTuple, TypeVar

from llm_datagen.runs import RunFolder
from llm_datagen.runs.lock import RunLock
from llm_datagen.streams import FileStream
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.locks import HeldLock
from llm_datagen.testing.faults import ENV, Fault, FaultPlan

T = TypeVar("T")

_NAMELESS = {"read", "write", "fsync", "truncate"}  # on an open file, the system's errors do not say which


class Failpoint(NamedTuple):
    """A place where something can go wrong."""

    operation: str
    """One of `OPERATIONS`."""
    path: str
    """What it is done to."""


class FaultyStorage(LocalStorage):
    """The files of this machine, with faults. Any thread may use it.

    Args:
        plan: what goes wrong.

    Attributes:
        hits: the failpoints that were reached, in order.
        fired: the faults that have happened, in order, each with the failpoint.
    """

    def __init__(self, plan: FaultPlan | Fault | None = None) -> None:
        self.plan = FaultPlan.of(plan)
        self.hits: list[Failpoint] = []
        self.fired: list[tuple[Fault, Failpoint]] = []
        self._counts = [0] * len(self.plan.faults)
        self._lock = threading.Lock()
        self._thawed = threading.Event()

    def thaw(self) -> None:
        """End all delays, those under way and those to come."""
        self._thawed.set()

    # The steps of LocalStorage.

    def make_folder(self, path: str) -> None:
        """Make a folder."""
        self._step("mkdir", path, lambda: super(FaultyStorage, self).make_folder(path))

    def open_file(self, path: str, mode: str) -> FileIO:
        """Open a file."""
        return self._step("open", path, lambda: super(FaultyStorage, self).open_file(path, mode))

    def read(self, file: FileIO, offset: int, length: int) -> bytes:
        """Read."""
        return self._step("read", str(file.name), lambda: super(FaultyStorage, self).read(file, offset, length))

    def write(self, file: FileIO, data: bytes) -> None:
        """Write, or tear."""

        def tear(keep: int) -> None:
            super(FaultyStorage, self).write(file, data[:keep])

        self._step("write", str(file.name), lambda: super(FaultyStorage, self).write(file, data), tear)

    def sync_file(self, file: FileIO) -> None:
        """Wait for the medium."""
        self._step("fsync", str(file.name), lambda: super(FaultyStorage, self).sync_file(file))

    def sync_folder(self, path: str) -> None:
        """Wait for the medium."""
        self._step("fsync", path, lambda: super(FaultyStorage, self).sync_folder(path))

    def truncate(self, file: FileIO, length: int) -> None:
        """Cut a file."""
        self._step("truncate", str(file.name), lambda: super(FaultyStorage, self).truncate(file, length))

    def rename(self, path: str, target: str) -> None:
        """Rename a file."""
        self._step("rename", target, lambda: super(FaultyStorage, self).rename(path, target))

    def link(self, path: str, target: str) -> None:
        """Give a file a second name."""
        self._step("link", target, lambda: super(FaultyStorage, self).link(path, target))

    def unlink(self, path: str) -> None:
        """Remove a file."""
        self._step("remove", path, lambda: super(FaultyStorage, self).unlink(path))

    def lock_file(self, file: FileIO) -> None:
        """Lock an open file."""
        self._step("lock", str(file.name), lambda: super(FaultyStorage, self).lock_file(file))

    def lock_path(self, path: str) -> HeldLock:
        """Lock a file."""
        return self._step("lock", path, lambda: super(FaultyStorage, self).lock_path(path))

    def _step(self, operation: str, path: str, step: Callable[[], T], tear: Callable[[int], None] | None = None) -> T:
        point = Failpoint(operation, path)
        due = self._due(point)
        for fault in due:
            match fault.action:
                case "delay":
                    self._thawed.wait(fault.seconds)
                case "tear":
                    if tear is None:
                        step()
                    else:
                        tear(fault.keep)
                    _strike(fault, point)
                case _ if fault.when == "before":
                    _strike(fault, point)
        result = step()
        for fault in due:
            if fault.action in {"kill", "raise"} and fault.when == "after":
                _undo(result)
                _strike(fault, point)
        return result

    def _due(self, point: Failpoint) -> list[Fault]:
        due = []
        with self._lock:
            self.hits.append(point)
            for number, fault in enumerate(self.plan.faults):
                if fault.matches(*point):
                    self._counts[number] += 1
                    if fault.is_due(self._counts[number]):
                        due.append(fault)
                        self.fired.append((fault, point))
        return due


def _undo(result: object) -> None:
    """Release what a step returned, when its caller will not get it."""
    if isinstance(result, FileIO):
        result.close()
    elif isinstance(result, HeldLock):
        result.release()


def _strike(fault: Fault, point: Failpoint) -> None:
    if fault.error is None:
        os.kill(os.getpid(), signal.SIGKILL)
        threading.Event().wait()  # the signal is on its way; this thread does nothing more
    number = fault.errno()
    if point.operation in _NAMELESS:
        raise OSError(number, os.strerror(number))
    raise OSError(number, os.strerror(number), point.path)


def install(storage: LocalStorage) -> None:
    """Let all file streams, run folders and locks of this process use a storage."""
    FileStream.storage = RunFolder.storage = RunLock.storage = storage


@contextlib.contextmanager
def inject(plan: FaultPlan | Fault | None) -> Iterator[FaultyStorage]:
    """Inject faults into all file streams and run folders of this process, until the block ends.

    Files that were open before stay as they are. Stream classes that have a storage of their own do, too.

    Args:
        plan: what goes wrong.

    Yields:
        The storage, with what was hit and what happened.
    """
    storage = FaultyStorage(plan)
    before = RunFolder.storage
    install(storage)
    try:
        yield storage
    finally:
        install(before)
        storage.thaw()


def record() -> contextlib.AbstractContextManager[FaultyStorage]:
    """Record every failpoint that is reached, without faults: `storage.hits`."""
    return inject(None)


def inject_from_env() -> FaultyStorage | None:
    """Inject the faults of the environment variable `ENV` until the process ends; None when it is not set.

    For a process that a test has started: the test passes the plan with `FaultPlan.as_env()`.
    """
    text = os.environ.get(ENV)
    if not text:
        return None
    storage = FaultyStorage(FaultPlan.from_json(text))
    install(storage)
    return storage
