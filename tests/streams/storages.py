"""Storages that record what is done to them, or fail, and streams on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from llm_datagen.streams import Segment, Stream, StreamFiles, cursor
from llm_datagen.streams.coverage import START
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.formats.csv import CsvCodec
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.storage.base import AppendFile, ReadFile, Storage
from llm_datagen.streams.storage.memory import MemoryStorage


class Crash(OSError):
    """The storage does nothing from now on."""


class CrashStorage:
    """A storage that dies once `budget` is spent: a byte appended costs one, and so does any other change."""

    def __init__(self, budget: int, inner: MemoryStorage | None = None) -> None:
        self.inner = inner or MemoryStorage()
        self.budget = budget
        self.spent = 0

    def spend(self, wanted: int) -> int:
        """Return how much of `wanted` can be done."""
        done = min(wanted, self.budget - self.spent)
        self.spent += done
        return done

    def change(self) -> None:
        """Pay for one change."""
        if not self.spend(1):
            raise Crash("no space left on the device")

    def survivor(self) -> MemoryStorage:
        """Return what is found after the crash: the same files, and nobody has them open."""
        storage = MemoryStorage()
        storage._files = {path: bytearray(data) for path, data in self.inner._files.items()}
        return storage

    def size(self, path: str) -> int | None:
        return self.inner.size(path)

    def open_read(self, path: str) -> ReadFile:
        return self.inner.open_read(path)

    def open_append(self, path: str) -> AppendFile:
        self.change()
        return _CrashFile(self, self.inner.open_append(path))

    def read_all(self, path: str) -> bytes | None:
        return self.inner.read_all(path)

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        self.change()
        self.inner.replace(path, data, sync=sync)

    def remove(self, path: str) -> None:
        self.change()
        self.inner.remove(path)


class _CrashFile:
    def __init__(self, storage: CrashStorage, file: AppendFile) -> None:
        self._storage = storage
        self._file = file

    def append(self, data: bytes) -> None:
        done = self._storage.spend(len(data))
        self._file.append(data[:done])
        if done < len(data):
            raise Crash("no space left on the device")

    def truncate(self, length: int) -> None:
        self._storage.change()
        self._file.truncate(length)

    def sync(self) -> None:
        self._storage.change()

    def begin_sync(self, offset: int, length: int) -> None:
        self._file.begin_sync(offset, length)

    def close(self) -> None:
        self._file.close()


class RecordingStorage:
    """A storage that writes down every change: (what, path)."""

    def __init__(self, inner: Storage | None = None) -> None:
        self.inner: Storage = inner or MemoryStorage()
        self.done: list[tuple[str, str]] = []

    def size(self, path: str) -> int | None:
        return self.inner.size(path)

    def open_read(self, path: str) -> ReadFile:
        return self.inner.open_read(path)

    def open_append(self, path: str) -> AppendFile:
        return _RecordingFile(self, path, self.inner.open_append(path))

    def read_all(self, path: str) -> bytes | None:
        return self.inner.read_all(path)

    def replace(self, path: str, data: bytes, *, sync: bool) -> None:
        self.done.append(("replace+sync" if sync else "replace", path))
        self.inner.replace(path, data, sync=sync)

    def remove(self, path: str) -> None:
        self.done.append(("remove", path))
        self.inner.remove(path)


class _RecordingFile:
    def __init__(self, storage: RecordingStorage, path: str, file: AppendFile) -> None:
        self._storage = storage
        self._path = path
        self._file = file

    def append(self, data: bytes) -> None:
        self._storage.done.append(("append", self._path))
        self._file.append(data)

    def truncate(self, length: int) -> None:
        self._storage.done.append(("truncate", self._path))
        self._file.truncate(length)

    def sync(self) -> None:
        self._storage.done.append(("sync", self._path))
        self._file.sync()

    def begin_sync(self, offset: int, length: int) -> None:
        self._file.begin_sync(offset, length)

    def close(self) -> None:
        self._storage.done.append(("close", self._path))
        self._file.close()


CODECS: dict[str, Codec] = {"jsonl": JsonlCodec(), "csv": CsvCodec()}


def stream_on(storage: Storage, kind: str = "jsonl") -> Stream:
    """Return the stream `out.<kind>` on `storage`."""
    stream = Stream(f"out.{kind}")
    stream.storage = storage
    stream.codec = CODECS[kind]
    return stream


def stream_of(data: bytes, kind: str = "jsonl") -> Stream:
    """Return a stream that another program has written: `data`, and nothing beside it."""
    storage = MemoryStorage()
    storage.replace(f"out.{kind}", data, sync=False)
    return stream_on(storage, kind)


def put(stream: Stream, data: bytes) -> None:
    """Write the stream's file anew."""
    stream.storage.replace(stream.path, data, sync=False)


def grow(stream: Stream, data: bytes) -> None:
    """Append to the stream's file, as another program does."""
    file = stream.storage.open_append(stream.path)
    file.append(data)
    file.close()


def contents(stream: StreamFiles) -> bytes:
    """Return the stream's file."""
    data = stream.storage.read_all(stream.path)
    assert data is not None
    return data


@contextlib.contextmanager
def blocks_of(size: int) -> Iterator[None]:
    """Read blocks of about `size` bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor, "READ_BYTES", size)
        yield


def drain(reader: SourceCursor, rows: int = 1 << 30) -> list[tuple[int, Any]]:
    """Return what the cursor gives now: (ordinal, decoded row)."""
    found: list[tuple[int, Any]] = []
    while (block := reader.read(rows)) is not None:
        assert 0 < len(block.records) <= rows
        found.extend((block.start + k, block.decode(record)) for k, record in enumerate(block.records))
    return found


def read_now(stream: Stream, segments: Sequence[Segment] = (START,), *, follow: bool = False) -> list[tuple[int, Any]]:
    """Return what can be read of the stream now: (ordinal, decoded row)."""
    reader = stream.cursor(segments, follow=follow)
    try:
        return drain(reader)
    finally:
        reader.close()


def values_now(stream: Stream) -> list[Any]:
    """Return the rows that can be read now; their ordinals must be those of a whole stream."""
    found = read_now(stream)
    assert [ordinal for ordinal, _ in found] == list(range(len(found)))
    return [value for _, value in found]
