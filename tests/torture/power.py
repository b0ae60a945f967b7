"""A disk that keeps a journal of what is done to it, so that its power can be cut at any step (`medium`)."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from llm_datagen.runs import RunFolder
from llm_datagen.testing.storage import FaultyStorage, install

from . import operators

Event = tuple[Any, ...]
"""A step: its name, and what it was done with."""


class JournalStorage(FaultyStorage):
    """The files of this machine, with a journal of all that changes them. Any thread may use it.

    Args:
        path: the journal; it is made anew.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        self._guard = threading.Lock()
        self._handles: dict[int, int] = {}
        self._opened = 0

    def close(self) -> None:
        """Close the journal."""
        os.close(self._fd)

    def note(self, *event: Any) -> None:
        """Write down a step, with one write."""
        os.write(self._fd, pickle.dumps(event))

    def open_file(self, path: str, mode: str) -> FileIO:
        """Open a file; each open file has a number."""
        if mode == "rb":
            return super().open_file(path, mode)
        with self._guard:
            self._opened += 1
            number = self._opened
        self.note("open", path, mode, number)
        file = super().open_file(path, mode)
        self._handles[id(file)] = number
        return file

    def write(self, file: FileIO, data: bytes) -> None:
        """Write."""
        self.note("write", self._handles[id(file)], bytes(data))
        super().write(file, data)

    def truncate(self, file: FileIO, length: int) -> None:
        """Cut a file."""
        self.note("truncate", self._handles[id(file)], length)
        super().truncate(file, length)

    def sync_file(self, file: FileIO) -> None:
        """Take note that the file is on the medium."""
        self.note("sync", self._handles[id(file)])

    def sync_folder(self, path: str) -> None:
        """Take note that the names in a folder are on the medium."""
        self.note("sync folder", path)

    def rename(self, path: str, target: str) -> None:
        """Rename a file."""
        self.note("rename", path, target)
        super().rename(path, target)

    def unlink(self, path: str) -> None:
        """Remove a file."""
        if Path(path).exists():
            self.note("remove", path)
        super().unlink(path)


@contextlib.contextmanager
def journaled(path: Path) -> Iterator[JournalStorage]:
    """Keep a journal of what is done to the disk, in this process, until the block ends."""
    storage = JournalStorage(path)
    before = RunFolder.storage
    install(storage)
    os.environ[operators.JOURNAL] = str(path)
    try:
        yield storage
    finally:
        install(before)
        del os.environ[operators.JOURNAL]
        storage.close()


def read_journal(path: Path) -> list[Event]:
    """Return the steps of a journal; what was torn by a kill is left out."""
    events: list[Event] = []
    with path.open("rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
        while True:
            events.append(pickle.load(file))
    return events
