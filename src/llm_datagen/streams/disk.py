"""The disk, as the streams see it: the few operations that everything durable is built of.

All that the engine writes goes through a `Disk`. There are two: the machine's files, and this process's memory
(`memory://`). A third one, that fails on purpose, is how crashes are tested.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Protocol

from llm_datagen.errors import StreamBusyError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no flock; there, a stream has no writer lock
    fcntl = None  # type: ignore[assignment]


class ReadFile(Protocol):
    """An open file that is read at offsets."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""

    def size(self) -> int:
        """Return the file's size in bytes, now."""

    def close(self) -> None:
        """Close the file. May be called more than once."""


class AppendFile(Protocol):
    """An open file that is written at its end. One writer at a time has it."""

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end."""

    def truncate(self, length: int) -> None:
        """Cut the file to `length` bytes; what is appended next goes there."""

    def sync(self) -> None:
        """Return when the operating system has put the file on the medium."""

    def close(self) -> None:
        """Close the file and let other writers have it. May be called more than once."""


class Disk(Protocol):
    """Operations on named files. Paths are text; each operation is atomic or says what is not."""

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""

    def open_read(self, path: str) -> ReadFile:
        """Open an existing file for reading.

        Raises:
            FileNotFoundError: when there is none.
        """

    def open_append(self, path: str) -> AppendFile:
        """Open a file for appending, making it (and its folder) when it is not there.

        Raises:
            StreamBusyError: when another writer has it open.
        """

    def read_all(self, path: str) -> bytes | None:
        """Return the whole (small) file, or None when there is no such file."""

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of the file, atomically: readers see the old or the new one, whole."""

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""


class LocalDisk:
    """The files of this machine."""

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""
        try:
            return Path(path).stat().st_size
        except FileNotFoundError:
            return None

    def open_read(self, path: str) -> ReadFile:
        """Open an existing file for reading."""
        return _LocalReadFile(FileIO(path, "rb"))

    def open_append(self, path: str) -> AppendFile:
        """Open a file for appending, making it (and its folder) when it is not there."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "ab")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            if not isinstance(error, BlockingIOError):
                raise
            raise StreamBusyError(
                f"{path} is being written by another writer; wait until it has ended, or choose another path"
            ) from None
        return _LocalAppendFile(file)

    def read_all(self, path: str) -> bytes | None:
        """Return the whole (small) file, or None when there is no such file."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of the file: a temporary file, then a rename."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{path}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        Path(temporary).replace(target)
        if sync:
            _sync_folder(target.parent)

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""
        Path(path).unlink(missing_ok=True)


class _LocalReadFile:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def read_at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length) or b""
        while len(data) < length and (more := self._file.read(length - len(data))):
            data += more
        return data

    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()


class _LocalAppendFile:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def append(self, data: bytes) -> None:
        _write_all(self._file.fileno(), data)

    def truncate(self, length: int) -> None:
        self._file.truncate(length)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()  # lets go of the lock, too


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _sync_folder(folder: Path) -> None:
    # A rename is durable only when its folder is. Not every system lets a folder be opened.
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class MemoryDisk:
    """Files in this process's memory, for `memory://` streams: they live as long as the process."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}
        self._writers: dict[str, object] = {}

    def size(self, path: str) -> int | None:
        """Return the file's size in bytes, or None when there is no such file."""
        data = self._files.get(path)
        return None if data is None else len(data)

    def open_read(self, path: str) -> ReadFile:
        """Open an existing file for reading."""
        if path not in self._files:
            raise FileNotFoundError(path)
        return _MemoryReadFile(self._files[path])

    def open_append(self, path: str) -> AppendFile:
        """Open a file for appending, making it when it is not there."""
        token = object()
        if self._writers.setdefault(path, token) is not token:
            raise StreamBusyError(f"memory://{path} is being written by another writer")

        def release() -> None:
            if self._writers.get(path) is token:
                del self._writers[path]

        return _MemoryAppendFile(self._files.setdefault(path, bytearray()), release)

    def read_all(self, path: str) -> bytes | None:
        """Return the whole file, or None when there is no such file."""
        data = self._files.get(path)
        return None if data is None else bytes(data)

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of the file."""
        self._files[path] = bytearray(data)

    def remove(self, path: str) -> None:
        """Remove the file if it is there."""
        self._files.pop(path, None)


class _MemoryReadFile:
    def __init__(self, data: bytearray) -> None:
        self._data = data

    def read_at(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])

    def size(self) -> int:
        return len(self._data)

    def close(self) -> None:
        pass


class _MemoryAppendFile:
    def __init__(self, data: bytearray, release: Callable[[], None]) -> None:
        self._data = data
        self._release = release

    def append(self, data: bytes) -> None:
        self._data += data

    def truncate(self, length: int) -> None:
        del self._data[length:]

    def sync(self) -> None:
        pass

    def close(self) -> None:
        self._release()
