"""Where an export lies: what it asks of the folders of this machine, and of an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from llm_datagen.streams.storage.base import ReadFile


class NewFile(Protocol):
    """A file that comes into its place whole, or not at all. One thread at a time uses it."""

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            DiskError: when the disk refuses.
        """

    def put(self) -> None:
        """Put it into its place, over what is there.

        Raises:
            DiskError: when the disk, or the store, refuses.
        """

    def abandon(self) -> None:
        """Remove what there is of it. May be called more than once."""


class FolderLock(Protocol):
    """A lock that this process has."""

    def remove(self) -> None:
        """Give it back, and remove it with its folder, which holds nothing else."""


class OutputPlace(Protocol):
    """The files of exports. Paths are text, as in `paths`. One thread at a time uses it."""

    def check(self, folder: str) -> None:
        """Check that exports can be made there, without a change.

        Args:
            folder: the hidden folder of the export.

        Raises:
            StreamError: when they cannot.
        """

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None when there is none."""

    def read_all(self, path: str) -> bytes | None:
        """Return a whole small file; None when there is none."""

    def open_read(self, path: str) -> ReadFile:
        """Open a file for reading.

        Raises:
            FileNotFoundError: when there is none.
        """

    def replace(self, path: str, data: bytes) -> None:
        """Put a small file, over what is there."""

    def put_new(self, path: str, data: bytes, temporary: str) -> None:
        """Put a small file whose place was free when the export began, or that holds the same already.

        Raises:
            StreamExistsError: when the store finds another file there.
        """

    def new_file(self, path: str, temporary: str) -> NewFile:
        """Begin a file.

        Args:
            path: where it goes.
            temporary: where it lies until it is whole, on the file system of its place.
        """

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""

    def names_in(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, in order; none when there is no folder."""

    def matching(self, root: str, pattern: str) -> Iterator[str]:
        """Yield the files below a folder whose paths match, where ``*`` stands for anything without a slash."""

    def ignores_case(self, folder: str) -> bool:
        """Return whether a name in capitals is the same file.

        Args:
            folder: the hidden folder of the export, which is there.
        """

    def lock(self, folder: str, shown: str) -> AbstractContextManager[FolderLock]:
        """Take the lock of the hidden folder of an export, until the block ends.

        Args:
            folder: the folder.
            shown: the target, for messages.

        Raises:
            StreamBusyError: when another process has it.
        """
