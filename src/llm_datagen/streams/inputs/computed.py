"""Inputs whose rows follow from their numbers: row k is made when it is wanted, and the same every time.

Nothing is copied, and a resume goes on at any row at once. The address of a row is its number. There may be no end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.inputs.numbered_rows import NumberedRows
from llm_datagen.streams.inputs.table_cursor import ENDLESS
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream


class ComputedStream(NumberedRows):
    """Rows that are computed from their numbers, by what a file says.

    Args:
        uri: its URI.
        base: the file, or the files.

    Attributes:
        base: the file, or the files.
    """

    def __init__(self, uri: str, base: Stream) -> None:
        super().__init__(uri)
        self.base = base
        self.storage = base.storage

    @abstractmethod
    def total(self) -> int:
        """Return how many rows there are; `ENDLESS` when they never end."""

    def first_named(self) -> int | None:
        """Return the number of the first row that has an `_i`, which others would have, too; None: rows have none."""
        return None

    @property
    def is_endless(self) -> bool:
        """Whether it has no last row."""
        return self.total() == ENDLESS

    @property
    def shown(self) -> str:
        """Where the file lies, as it was given."""
        return self.base.shown

    @property
    def path(self) -> str:
        """Where the file lies."""
        return self.base.path

    @property
    def files_read(self) -> Sequence[str]:
        """The paths of the files."""
        return self.base.files_read

    @property
    def place(self) -> Place:
        """What is read: the file."""
        return self.base.place

    def place_of(self, path: str) -> Place:
        """Return what the file at `path` is, however it is spelled."""
        return self.base.place_of(path)

    def anchor(self) -> None:
        """Make its path absolute."""
        self.base.anchor()

    def size(self) -> int | None:
        """Return the bytes of the file."""
        return self.base.size()

    def is_there(self) -> bool:
        """Return whether there is such a file."""
        return self.base.is_there()

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return self.base.exists()

    def read_seal(self) -> Seal | None:
        """Return the seal of the file."""
        return self.base.read_seal()

    def check_path(self) -> None:
        """Refuse to write.

        Raises:
            StreamError: always.
        """
        raise StreamError(f"{self.uri} is only read: its rows are computed; write to jsonl://")

    @abstractmethod
    def fingerprint(self, *, follow: bool) -> Any:
        """Return what the rows depend on, as plain data."""

    @abstractmethod
    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the rows are what they were, if rows of it were read.

        Raises:
            StreamChangedError: when they are not.
        """

    def check_resumable(self, done: Coverage) -> None:
        """Do nothing: the fingerprint tells whether the rows are others."""
