"""Exports in folders of this machine: a temporary name, a sync, a rename."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from llm_datagen.errors import StreamBusyError
from llm_datagen.streams.storage.base import ReadFile
from llm_datagen.streams.storage.local import LocalStorage
from llm_datagen.streams.storage.os_errors import named

LOCK = "lock"
_OTHER_MAGIC = re.compile(r"[?[]")
"""What a glob of Python takes for more than itself, besides ``*``."""


class LocalPlace:
    """The files of this machine. See `OutputPlace`.

    Args:
        storage: what keeps them.
    """

    def __init__(self, storage: LocalStorage) -> None:
        self._storage = storage

    def check(self, folder: str) -> None:
        """Do nothing: whether a folder can be written to is known when it is."""

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None when there is none."""
        return self._storage.size(path)

    def read_all(self, path: str) -> bytes | None:
        """Return a whole small file; None when there is none."""
        return self._storage.read_all(path)

    def open_read(self, path: str) -> ReadFile:
        """Open a file for reading."""
        return self._storage.open_read(path)

    def replace(self, path: str, data: bytes) -> None:
        """Put a small file, over what is there."""
        self._storage.replace(path, data, sync=True)

    def put_new(self, path: str, data: bytes, temporary: str) -> None:
        """Put a small file."""
        file = self.new_file(path, temporary)
        try:
            file.write(data)
            file.put()
        except BaseException:
            file.abandon()
            raise

    def new_file(self, path: str, temporary: str) -> LocalNewFile:
        """Begin a file at its temporary name."""
        return LocalNewFile(self._storage, path, temporary)

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""
        self._storage.remove(path)

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, but for its lock."""
        if not Path(folder).is_dir():
            return []
        return sorted(path.name for path in Path(folder).iterdir() if path.name != LOCK)

    def matching(self, root: str, pattern: str) -> Iterator[str]:
        """Yield the files below a folder whose paths match."""
        if Path(root).is_dir():
            relative = _OTHER_MAGIC.sub(r"[\g<0>]", str(Path(pattern).relative_to(root)))
            yield from map(str, Path(root).glob(relative))

    def ignores_case(self, folder: str) -> bool:
        """Return whether the file system takes a name in capitals for the same one."""
        return Path(folder).with_name(Path(folder).name.swapcase()).exists()

    @contextlib.contextmanager
    def lock(self, folder: str, shown: str) -> Iterator[LocalFolderLock]:
        """Take the lock of a folder, which is one of the kernel; the folder is made for it."""
        held = self._storage.take_lock(str(Path(folder) / LOCK))
        if held is None:
            raise StreamBusyError(f"{shown} is being exported by another process; wait until it has ended")
        with held:
            yield LocalFolderLock(self._storage, folder)


class LocalFolderLock:
    """The lock of a folder. See `FolderLock`."""

    def __init__(self, storage: LocalStorage, folder: str) -> None:
        self._storage = storage
        self._folder = folder

    def remove(self) -> None:
        """Remove it, and the folder. Others that wait for the file look whether it is still there."""
        self._storage.remove(str(Path(self._folder) / LOCK))
        if Path(self._folder).is_dir():
            Path(self._folder).rmdir()


class LocalNewFile:
    """A file at a temporary name, which a process that died may have left: it is written over. See `NewFile`."""

    def __init__(self, storage: LocalStorage, path: str, temporary: str) -> None:
        self._storage = storage
        self._path = path
        self._temporary = temporary
        try:
            storage.make_folder(str(Path(temporary).parent))
            self._file = storage.open_file(temporary, "wb")
        except OSError as error:
            raise named(error, temporary) from error

    def write(self, data: bytes) -> None:
        """Add bytes."""
        try:
            self._storage.write(self._file, data)
        except OSError as error:
            raise named(error, self._path) from error

    def put(self) -> None:
        """Sync it, rename it, and sync its folder."""
        folder = str(Path(self._path).parent)
        try:
            with self._file:
                self._storage.sync_file(self._file)
            self._storage.make_folder(folder)
            self._storage.rename(self._temporary, self._path)
            self._storage.sync_folder(folder)
        except OSError as error:
            raise named(error, self._path) from error

    def abandon(self) -> None:
        """Remove it."""
        self._file.close()
        with contextlib.suppress(OSError):
            self._storage.unlink(self._temporary)
