"""Files in this process's memory."""

from __future__ import annotations

from collections.abc import Callable

from llm_datagen.errors import StreamBusyError
from llm_datagen.streams.storage.base import AppendFile, ReadFile


class MemoryStorage:
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

    def begin_sync(self, offset: int, length: int) -> None:
        pass

    def close(self) -> None:
        self._release()
