"""Storage, as the streams see it: the few operations that everything durable is built of.

All that the engine writes goes through a `Storage`. There are two: the machine's files (`local`), and this process's
memory (`memory`, for ``memory://``). A third one, that fails on purpose, is how crashes are tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

Place = tuple[str, str]
"""What a file or a stream is, however it is spelled; see `Stream.place_of`."""


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
        """Return when the operating system has put the file on the medium, and that it is in its folder."""

    def begin_sync(self, offset: int, length: int) -> None:
        """Have the operating system begin to put some bytes on the medium, so that a `sync` has less to wait for."""

    def close(self) -> None:
        """Close the file and let other writers have it. May be called more than once."""


@runtime_checkable
class GrowingFile(Protocol):
    """An `AppendFile` that lies elsewhere while it grows, and is put in its place when it has ended."""

    def take(self, length: int, confirm: Callable[[], None]) -> None:
        """Go on at `length`, as the writer that a log says. What lies behind it no longer counts.

        Args:
            length: bytes of the file that are committed.
            confirm: raises when another writer has begun since; called before anything is done that would be in the
                way of that one.
        """

    def finish(self, crc: int | None) -> None:
        """Put it in its place, whole. May be called again by a later process, when it was cut short.

        Args:
            crc: the CRC-32 that it must have; None compares nothing.
        """


class Storage(Protocol):
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


@runtime_checkable
class KeepsTimes(Protocol):
    """A storage that knows when files were written."""

    def modified_at(self, path: str) -> int | None:
        """Return when the file was last written, in nanoseconds; None when there is no such file."""
