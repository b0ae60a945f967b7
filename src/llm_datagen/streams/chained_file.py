"""A small log of lines with checksums that is appended to, and mended when a write was cut short."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from llm_datagen.streams.checksum_chain import ChecksumChain
from llm_datagen.streams.storage.base import AppendFile
from llm_datagen.streams.storage.local import LOCAL_STORAGE


class ChainedFile:
    """A file of lines, as a `ChecksumChain`. Its methods block; one thread at a time.

    All raise an OSError when the disk refuses.

    Args:
        path: where it lies, on this machine.

    Attributes:
        size: the bytes of all whole lines.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: AppendFile | None = None
        self._last = ChecksumChain().last
        self._is_torn = False
        self.size = 0

    def replace(self, payloads: Iterable[bytes], *, sync: bool) -> None:
        """Put a file of other lines in its place, all at once, and go on with that.

        Args:
            payloads: the lines, without their newlines.
            sync: whether it has to survive the death of the machine, too.
        """
        chain = ChecksumChain()
        data = b"".join(map(chain.line, payloads))
        LOCAL_STORAGE.replace(str(self._path), data, sync=sync)
        self.close()
        self._file = LOCAL_STORAGE.open_append(str(self._path))
        self.size, self._last, self._is_torn = len(data), chain.last, False

    def append(self, payloads: Iterable[bytes], *, sync: bool = False) -> None:
        """Add lines. When they cannot be written, the file is as it was then, or the next write mends it."""
        chain = ChecksumChain(self._last)
        lines = b"".join(map(chain.line, payloads))
        if self._file is None:
            raise OSError("it is closed")
        if self._is_torn:
            self._file.truncate(self.size)
        self._is_torn = True
        self._file.append(lines)
        if sync:
            self._file.sync()
        self.size += len(lines)
        self._last, self._is_torn = chain.last, False

    @property
    def is_open(self) -> bool:
        """Whether lines can be added."""
        return self._file is not None

    def close(self) -> None:
        """Close it. May be called more than once."""
        if self._file is not None:
            self._file.close()
            self._file = None
