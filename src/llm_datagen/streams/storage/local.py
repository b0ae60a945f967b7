"""The files of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
from io import FileIO
from pathlib import Path

from llm_datagen.errors import DiskError, StreamBusyError
from llm_datagen.streams.storage import locks
from llm_datagen.streams.storage.base import AppendFile, ReadFile
from llm_datagen.streams.storage.locks import HeldLock

_COPY_BYTES = 1 << 20


class LocalStorage:
    """The files of this machine.

    The operations are made of *steps*, the second half of the methods: one for each thing that the operating system
    is asked to do, and that can fail or be cut short by the death of the process. A subclass that overrides a step
    intervenes there; `llm_datagen.testing` does. What a step raises as an OSError leaves an operation as a `DiskError`
    that names the file.
    """

    # Operations: what the engine calls.

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""
        try:
            return Path(path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _named(error, path) from error

    def open_read(self, path: str) -> ReadFile:
        """Open an existing file for reading."""
        try:
            return _LocalReadFile(self, self.open_file(path, "rb"))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _named(error, path) from error

    def open_append(self, path: str) -> AppendFile:
        """Open a file for appending, making it (and its folder) when it is not there."""
        try:
            self.make_folder(str(Path(path).parent))
            file = self.open_file(path, "ab")
            try:
                self.lock_file(file)
            except BaseException:
                file.close()
                raise
        except BlockingIOError:
            who = locks.holder(path)
            raise StreamBusyError(
                f"{path} is being written by another writer{f', {who}' if who else ''}; wait until it has ended, or "
                "choose another path"
            ) from None
        except OSError as error:
            raise _named(error, path) from error
        return _LocalAppendFile(self, file, path)

    def read_all(self, path: str) -> bytes | None:
        """Return the whole (small) file, or None when there is no such file."""
        try:
            with self.open_file(path, "rb") as file:
                return self.read(file, 0, os.fstat(file.fileno()).st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _named(error, path) from error

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of the file: a temporary file, then a rename."""
        folder, temporary = str(Path(path).parent), f"{path}.tmp"
        try:
            self.make_folder(folder)
            with self.open_file(temporary, "wb") as file:
                self.write(file, data)
                if sync:
                    self.sync_file(file)
            self.rename(temporary, path)
            if sync:
                self.sync_folder(folder)
        except OSError as error:
            raise _named(error, path) from error

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _named(error, path) from error

    def move(self, path: str, target: str) -> None:
        """Give a file another name, in place of the file that has it; on another file system, by a copy of it."""
        folders = str(Path(path).parent), str(Path(target).parent)
        try:
            self.make_folder(folders[1])
            try:
                self.rename(path, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(path, f"{target}.tmp")
                self.rename(f"{target}.tmp", target)
                self.unlink(path)
            for folder in folders:
                self.sync_folder(folder)
        except OSError as error:
            raise _named(error, path) from error

    def _copy(self, path: str, target: str) -> None:
        with self.open_file(path, "rb") as source, self.open_file(target, "wb") as copy:
            offset = 0
            while data := self.read(source, offset, _COPY_BYTES):
                self.write(copy, data)
                offset += len(data)
            self.sync_file(copy)

    def take_lock(self, path: str) -> HeldLock | None:
        """Take the lock that is a file, making it when it is not there; None when another process, or object, has it.

        The lock goes with the process, whatever ends it.
        """
        try:
            self.make_folder(str(Path(path).parent))
            return self.lock_path(path)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _named(error, path) from error

    # Steps: what can fail.

    def make_folder(self, path: str) -> None:
        """Make a folder, and those above it, when it is not there."""
        Path(path).mkdir(parents=True, exist_ok=True)

    def open_file(self, path: str, mode: str) -> FileIO:
        """Open a file; `mode` is "rb", "ab" or "wb", which makes it anew: no link that lies there is followed."""
        if mode == "ab":
            return locks.open_lockable(path)
        if mode == "rb":
            return FileIO(path, mode)
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


LOCAL_STORAGE = LocalStorage()
"""The storage of all file streams and run folders."""


class _LocalReadFile:
    def __init__(self, storage: LocalStorage, file: FileIO) -> None:
        self._storage = storage
        self._file = file

    def read_at(self, offset: int, length: int) -> bytes:
        try:
            return self._storage.read(self._file, offset, length)
        except OSError as error:
            raise _named(error, str(self._file.name)) from error

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


class _LocalAppendFile:
    def __init__(self, storage: LocalStorage, file: FileIO, path: str) -> None:
        self._storage = storage
        self._file = file
        self._path = path
        self._is_entered = False  # the file may be new, or made by a process that died before it said so

    def append(self, data: bytes) -> None:
        try:
            self._storage.write(self._file, data)
            self._check_place()
        except OSError as error:
            raise _named(error, self._path) from error

    def _check_place(self) -> None:
        """See to it that the file still has a name: what goes to a file that was removed is lost."""
        if os.fstat(self._file.fileno()).st_nlink == 0 and not Path(self._path).exists():
            raise FileNotFoundError(errno.ENOENT, "The file was removed while it was being written", self._path)

    def truncate(self, length: int) -> None:
        try:
            self._storage.truncate(self._file, length)
        except OSError as error:
            raise _named(error, self._path) from error

    def sync(self) -> None:
        try:
            self._storage.sync_file(self._file)
            if not self._is_entered:
                self._storage.sync_folder(str(Path(self._path).parent))
                self._is_entered = True
        except OSError as error:
            raise _named(error, self._path) from error

    def begin_sync(self, offset: int, length: int) -> None:
        if hasattr(os, "posix_fadvise"):
            # Linux begins to write such pages at once, without waiting; those that are not written yet stay in memory.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file.fileno(), offset, length, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        self._file.close()  # lets go of the lock, too


def _named(error: OSError, path: str) -> DiskError:
    """Return `error` as one that names the file; what fails on an open file does not."""
    if isinstance(error, DiskError):
        return error
    what, hint = error.strerror or str(error), _HINTS.get(error.errno or 0)
    return DiskError(error.errno, f"{what} ({hint})" if hint else what, error.filename or path)


_RIGHTS = "give the user that runs this the right to write there, or choose another path"
_HINTS = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "choose a path on a file system that can be written",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EISDIR: "this is a folder; give the path of a file",
    errno.ELOOP: "symbolic links lead in a circle; choose another path",
    errno.ENOSPC: "make room, then resume",
    errno.EMFILE: "raise the limit of open files, ulimit -n",
}
"""What to do about an error of the system."""
