"""Open files of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
from io import FileIO
from pathlib import Path

from llm_datagen.streams.storage.local_steps import LocalSteps
from llm_datagen.streams.storage.os_errors import named


class LocalReadFile:
    """A file that is open for reading. See `ReadFile`."""

    def __init__(self, steps: LocalSteps, file: FileIO) -> None:
        self._steps = steps
        self._file = file

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; fewer only at the end of the file."""
        try:
            return self._steps.read(self._file, offset, length)
        except OSError as error:
            raise named(error, str(self._file.name)) from error

    def size(self) -> int:
        """Return the file's size in bytes, now."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class LocalAppendFile:
    """A file that is open for appending, and locked. See `AppendFile`."""

    def __init__(self, steps: LocalSteps, file: FileIO, path: str) -> None:
        self._steps = steps
        self._file = file
        self._path = path
        self._is_entered = False  # the file may be new, or made by a process that died before it said so

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end."""
        try:
            self._steps.write(self._file, data)
            self._check_place()
        except OSError as error:
            raise named(error, self._path) from error

    def _check_place(self) -> None:
        """Check that the file still has a name: what goes to a file that was removed is lost."""
        if os.fstat(self._file.fileno()).st_nlink == 0 and not Path(self._path).exists():
            raise FileNotFoundError(errno.ENOENT, "The file was removed while it was being written", self._path)

    def truncate(self, length: int) -> None:
        """Cut the file to `length` bytes."""
        try:
            self._steps.truncate(self._file, length)
        except OSError as error:
            raise named(error, self._path) from error

    def sync(self) -> None:
        """Return when the file is on the medium, and its name in its folder."""
        try:
            self._steps.sync_file(self._file)
            if not self._is_entered:
                self._steps.sync_folder(str(Path(self._path).parent))
                self._is_entered = True
        except OSError as error:
            raise named(error, self._path) from error

    def begin_sync(self, offset: int, length: int) -> None:
        """Begin to put a part of the file on the medium, where the system can."""
        if hasattr(os, "posix_fadvise"):
            # Linux begins to write such pages at once, without waiting; those that are not written yet stay in memory.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file.fileno(), offset, length, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Close the file, and let go of its lock."""
        self._file.close()
