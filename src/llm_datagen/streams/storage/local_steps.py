"""The steps that operations on files are made of: what the operating system is asked to do, and what can fail."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from io import FileIO
from pathlib import Path

from llm_datagen.streams.storage import locks
from llm_datagen.streams.storage.locks import HeldLock


class LocalSteps:
    """The steps: each may fail, or be cut short by the death of the process.

    A subclass that overrides a step intervenes there; `llm_datagen.testing` does.
    """

    # Steps: what can fail.

    def make_folder(self, path: str) -> None:
        """Make a folder, and those above it, when it is not there."""
        Path(path).mkdir(parents=True, exist_ok=True)

    def open_file(self, path: str, mode: str) -> FileIO:
        """Open a file; `mode` is "rb", "ab" or "wb", which makes it anew: no link that lies there is followed."""
        if mode == "ab":
            return locks.open_lockable(path)
        if mode == "rb":
            return _refuse_special(FileIO(path, mode, opener=_open_without_waiting))
        try:
            return FileIO(path, "xb")
        except FileExistsError:  # left by a process that died, or planted
            Path(path).unlink()
            return FileIO(path, "xb")

    def read(self, file: FileIO, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        file.seek(offset)
        data = file.read(length) or b""
        while len(data) < length and (more := file.read(length - len(data))):
            data += more
        return data

    def write(self, file: FileIO, data: bytes) -> None:
        """Write all of `data` at the end."""
        fd = file.fileno()
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])

    def sync_file(self, file: FileIO) -> None:
        """Wait until the file is on the medium."""
        os.fsync(file.fileno())

    def sync_folder(self, path: str) -> None:
        """Wait until what was renamed into a folder is so on the medium. Not every system lets a folder be opened."""
        with contextlib.suppress(PermissionError, IsADirectoryError):
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.EBADF}:  # a file system whose folders are always in order
                    raise
            finally:
                os.close(fd)

    def truncate(self, file: FileIO, length: int) -> None:
        """Cut a file to `length` bytes."""
        file.truncate(length)

    def rename(self, path: str, target: str) -> None:
        """Give a file another name, in place of the file that has it."""
        Path(path).replace(target)

    def link(self, path: str, target: str) -> None:
        """Give a file a second name, which nothing has."""
        os.link(path, target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        Path(path).unlink()

    def lock_file(self, file: FileIO) -> None:
        """Lock an open file until it is closed.

        Raises:
            BlockingIOError: when another writer has it.
        """
        locks.lock_file(file)

    def lock_path(self, path: str) -> HeldLock:
        """Lock the file at `path`.

        Raises:
            BlockingIOError: when another has it.
        """
        return locks.lock_path(path)


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; of a pipe, do not wait for who writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_special(file: FileIO) -> FileIO:
    """Return a file that was opened for reading, if it is one: nothing can be read at offsets of pipes and devices."""
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        file.close()
        raise OSError(errno.ESPIPE, "It is a pipe or a device, and no regular file", file.name)
    return file
