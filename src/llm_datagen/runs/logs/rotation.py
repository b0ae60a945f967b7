"""The file of a platform log: lines from several threads and processes, none of them torn or lost; and its rotation.

A line is one write to a file that is open for appending: the kernel puts it behind whatever is there, whoever else
writes. Before each line a look at the path shows whether the file was moved away (by us in another process, or by
a tool such as logrotate): then the path is opened anew, so that no line goes to a file that will be removed.

With a bound, who writes has the file's lock (`<path>.lock`) from that look until the line is written, and rotates when
the line would exceed the bound: `platform.log` becomes `platform.log.1`, that one `.2`, and so on; the oldest goes.
So no rotation comes between another's look and its write. A log is not worth a run: who does not get the lock in time
(its owner was stopped by a debugger, or the file system has none) writes without, and leaves rotating to others.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm_datagen.config import check_count, check_local_path, refuses_unknown
from llm_datagen.errors import DiskError
from llm_datagen.streams.storage.locks import wait_for_lock

TURN_SECONDS = 1.0
"""How long a line waits for the lock of a log that is rotated, at most."""

_TRY_SECONDS = 0.001


@refuses_unknown
@dataclass(frozen=True, slots=True)
class LogFile(os.PathLike[str]):
    """A platform log that is rotated by its size: for `log_file`, in place of a path.

    All processes that write to the same log must give it the same bounds.

    Attributes:
        path: the file, relative to the working directory when the run starts.
        max_bytes: bytes of the file, at most (but for a single longer line); None: any number, and no rotation.
        backups: older files that are kept: ``<path>.1``, the newest, to ``<path>.<backups>``.

    Raises:
        ConfigError: when a bound is not positive.
    """

    path: str | os.PathLike[str]
    max_bytes: int | None = None
    backups: int = 5

    def __post_init__(self) -> None:
        check_local_path("path of a LogFile", os.fspath(self.path) if isinstance(self.path, os.PathLike) else self.path)
        if self.max_bytes is not None:
            check_count("max_bytes of a LogFile", self.max_bytes)
        check_count("backups of a LogFile", self.backups)

    def __fspath__(self) -> str:
        return os.fspath(self.path)


class Lines:
    """A file to which lines are appended. Any thread may call its methods.

    Args:
        file: where, and how large.

    Raises:
        DiskError: when it cannot be opened.
    """

    def __init__(self, file: LogFile) -> None:
        self.path = Path(file).absolute()
        self._max_bytes, self._backups = file.max_bytes, file.backups
        self._lock = threading.Lock()  # no line may go to a number that was closed, and is another file's now
        self._gate = f"{self.path}.lock" if file.max_bytes is not None else None
        self._fd = -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._turn():  # who looks for a torn end must not see half of a line that another one is writing
                self._open()
        except OSError as error:
            what = f"the platform log cannot be written (log_file=None turns it off): {error.strerror}"
            raise DiskError(error.errno, what, str(self.path)) from error

    def msg(self, line: bytes) -> None:
        """Append a line; never raises."""
        with self._lock, contextlib.suppress(OSError):  # a full disk must not end a run because of its log
            if self._fd >= 0:
                with self._turn() as is_ours:
                    self._catch_up()
                    if is_ours:
                        self._rotate_for(len(line) + 1)
                    self._append(line)

    debug = info = warning = error = critical = msg

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def _open(self) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        before, self._fd = self._fd, fd
        if before >= 0:
            os.close(before)
        found = os.fstat(fd)
        self._identity = found.st_dev, found.st_ino
        self._is_torn = stat.S_ISREG(found.st_mode) and found.st_size > 0 and not _ends_with_newline(self.path)

    def _append(self, line: bytes) -> None:
        # A disk that was full, or a process that was killed, may have left a part of a line.
        data = b"\n" * self._is_torn + line + b"\n"
        written = os.write(self._fd, data)
        self._is_torn = written < len(data)

    def _catch_up(self) -> None:
        """Open the path anew if another file is there now, or none."""
        with contextlib.suppress(OSError):  # its folder is gone, say: go on with the file that is open
            try:
                found = os.stat(self.path)  # noqa: PTH116 - a line's path; Path.stat is slower
            except FileNotFoundError:
                self._open()
            else:
                if (found.st_dev, found.st_ino) != self._identity:
                    self._open()

    # Rotation.

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Have the file's lock, if there is one; tell whether that is so."""
        with contextlib.ExitStack() as turn:
            is_ours = False
            if self._gate is not None:
                with contextlib.suppress(OSError):
                    lock = wait_for_lock(self._gate, TURN_SECONDS, every=_TRY_SECONDS)
                    if lock is not None:
                        turn.enter_context(lock)
                        is_ours = True
            yield is_ours

    def _rotate_for(self, size: int) -> None:
        held = os.fstat(self._fd).st_size
        if self._max_bytes is None or not held or held + size + self._is_torn <= self._max_bytes:
            return
        with contextlib.suppress(OSError):  # what cannot be renamed grows on
            free = 1  # a number that is free, such as one that a rotation has left that was killed; or the last one
            while free < self._backups and Path(f"{self.path}.{free}").exists():
                free += 1
            names = [str(self.path), *(f"{self.path}.{number}" for number in range(1, free + 1))]
            for number in range(free, 0, -1):
                os.replace(names[number - 1], names[number])  # noqa: PTH105
            self._open()


def _ends_with_newline(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
    except OSError:  # it may be written, but not read
        return True
