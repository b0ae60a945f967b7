"""The files of this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from llm_datagen.errors import StreamBusyError
from llm_datagen.streams.storage import locks
from llm_datagen.streams.storage.base import AppendFile, ReadFile
from llm_datagen.streams.storage.local_files import LocalAppendFile, LocalReadFile
from llm_datagen.streams.storage.local_steps import LocalSteps
from llm_datagen.streams.storage.locks import HeldLock
from llm_datagen.streams.storage.os_errors import named

_COPY_BYTES = 1 << 20

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EXDEV, errno.EMLINK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Where a second name is not to be had: what a file system, or a sandbox, says."""


class LocalStorage(LocalSteps):
    """The files of this machine.

    The operations, which the engine calls, are made of the steps of `LocalSteps`. What a step raises as an OSError
    leaves an operation as a `DiskError` that names the file.
    """

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""
        try:
            return os.stat(path).st_size  # noqa: PTH116 - asked of every file beside every stream
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise named(error, path) from error

    def modified_at(self, path: str) -> int | None:
        """Return when the file was last written, in nanoseconds; None when there is no such file."""
        try:
            return os.stat(path).st_mtime_ns  # noqa: PTH116 - as `size`
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise named(error, path) from error

    def open_read(self, path: str) -> ReadFile:
        """Open an existing file for reading."""
        try:
            return LocalReadFile(self, self.open_file(path, "rb"))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise named(error, path) from error

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
            raise named(error, path) from error
        return LocalAppendFile(self, file, path)

    def read_all(self, path: str) -> bytes | None:
        """Return the whole (small) file, or None when there is no such file."""
        try:
            with self.open_file(path, "rb") as file:
                return self.read(file, 0, os.fstat(file.fileno()).st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise named(error, path) from error

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
            raise named(error, path) from error

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise named(error, path) from error

    def move(self, path: str, target: str) -> None:
        """Give a file another name, in place of the file that has it; on another file system, by a copy of it.

        Of a symbolic link, it is the file that moves: the link stays, and what is written there next makes a new one.
        """
        path = os.path.realpath(path)
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
            raise named(error, path) from error

    def share(self, path: str, target: str, *, by_link: bool) -> None:
        """Have what a file holds under another name, too, unless something has that name. When cut short, do it again.

        Args:
            path: the file.
            target: the other name.
            by_link: whether both may be one file, where the file system has such links; see `own`. Else it is a copy.
        """
        try:
            path, folder = os.path.realpath(path), str(Path(target).parent)
            self.make_folder(folder)
            if self.size(target) is None and not (by_link and self._is_linked(path, target)):
                self._copy(path, f"{target}.tmp")
                self.rename(f"{target}.tmp", target)
            self.sync_folder(folder)
        except OSError as error:
            raise named(error, path) from error

    def _is_linked(self, path: str, target: str) -> bool:
        try:
            self.link(path, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return False
        return True

    def own(self, path: str) -> None:
        """Make a file that is to be written one of its own: a copy of itself, when it has other names.

        Raises:
            StreamBusyError: when a writer has it open.
        """
        path = os.path.realpath(path)
        try:
            if os.stat(path).st_nlink == 1:  # noqa: PTH116 - asked of every stream that is opened
                return
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise named(error, path) from error
        file = self.open_append(path)  # nobody else may write meanwhile
        try:
            self._copy(path, f"{path}.tmp")
            self.rename(f"{path}.tmp", path)
            self.sync_folder(str(Path(path).parent))
        except OSError as error:
            raise named(error, path) from error
        finally:
            file.close()

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
            raise named(error, path) from error


LOCAL_STORAGE = LocalStorage()
"""The storage of all file streams and run folders."""
