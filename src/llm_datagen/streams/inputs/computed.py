"""Inputs whose rows follow from their numbers: row k is made when it is wanted, and the same every time.

Nothing is copied, and a resume goes on at any row at once. The address of a row is its number. There may be no end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.inputs.derived import DerivedStream
from llm_datagen.streams.inputs.numbered_rows import NumberedRows
from llm_datagen.streams.inputs.table_cursor import ENDLESS


class ComputedStream(DerivedStream, NumberedRows):
    """Rows that are computed from their numbers, by what a file says; see `DerivedStream`."""

    why_only_read = "its rows are computed"

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
