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
            raise named(error, path) from error

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
