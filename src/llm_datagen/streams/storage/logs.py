"""Logs: small files of lines, one of which is added after the other, and which are put anew from time to time."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from llm_datagen.streams.storage.base import AppendFile, Storage


class Log(Protocol):
    """A log that is open for writing. One thread at a time may use it.

    Attributes:
        writer: a name that no other writer of the log has; empty where others are kept out while it is written.
        is_put_whole: whether each line that is added puts all lines, so that a long log costs much.
    """

    writer: str
    is_put_whole: bool

    def rewrite(self, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of all lines, atomically."""

    def append(self, line: bytes, *, sync: bool) -> None:
        """Add a line."""

    def sync(self) -> None:
        """Return when all lines are on the medium."""

    def confirm(self) -> None:
        """Check that no other writer has the log now; raise when one has."""

    def close(self) -> None:
        """Close the file. May be called more than once."""


@runtime_checkable
class HasLogs(Protocol):
    """A storage that keeps nobody out, and whose logs notice other writers instead."""

    def open_log(self, path: str) -> Log:
        """Open a log, which may be there already. What others have put before, it has noticed."""


@runtime_checkable
class PutsNew(Protocol):
    """A storage that keeps nobody out, and that can put a file only if there is none."""

    def put_new(self, path: str, data: bytes) -> bool:
        """Put a file; return False when another one is there. `data` differs from what anybody else puts there."""


class FileLog:
    """A log in a file that is appended to: of a storage that gives the data to one writer at a time.

    Args:
        storage: where it lies.
        path: its path.
    """

    writer: str = ""
    is_put_whole: bool = False

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self._path = path
        self._file: AppendFile | None = None

    def rewrite(self, data: bytes, *, sync: bool) -> None:
        """Put `data` in place of all lines, atomically."""
        self.close()
        self._storage.replace(self._path, data, sync=sync)

    def append(self, line: bytes, *, sync: bool) -> None:
        """Add a line."""
        file = self._open()
        file.append(line)
        if sync:
            file.sync()

    def sync(self) -> None:
        """Return when all lines are on the medium."""
        self._open().sync()

    def _open(self) -> AppendFile:
        if self._file is None:
            self._file = self._storage.open_append(self._path)
        return self._file

    def confirm(self) -> None:
        """Do nothing: others are kept out."""

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def open_log(storage: Storage, path: str) -> Log:
    """Open a log, which may be there already."""
    return storage.open_log(path) if isinstance(storage, HasLogs) else FileLog(storage, path)
