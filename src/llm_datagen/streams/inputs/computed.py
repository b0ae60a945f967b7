"""Inputs whose rows follow from their numbers: row k is made when it is wanted, and the same every time.

Nothing is copied, and a resume goes on at any row at once. The address of a row is its number. There may be no end. How
many rows there are (the bounds) may change: that adds rows behind the others, or takes away some that nobody has read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.inputs.derived import DerivedStream
from llm_datagen.streams.inputs.numbered_rows import NumberedRows
from llm_datagen.streams.inputs.table_cursor import ENDLESS
from llm_datagen.streams.source import Source, streams_of

INPUT_BOUNDS = "input_bounds"
"""The key of a node for the bounds of the computed inputs that it reads, where a resume has changed them, by
their URIs: ``{"cycle://seeds.jsonl?n=30": {"n": 90, "times": None}}``. Else, the bounds are what the input says."""


class ComputedStream(DerivedStream, NumberedRows):
    """Rows that are computed from their numbers, by what a file says; see `DerivedStream`."""

    why_only_read = "its rows are computed"

    @property
    @abstractmethod
    def bounds(self) -> dict[str, int | None]:
        """What bounds the number of rows, by name; None: nothing does."""

    @abstractmethod
    def take_bounds(self, bounds: Mapping[str, int | None]) -> None:
        """Read as if the input said these bounds."""

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

    def has_grown(self, done: Coverage, size: int) -> bool:
        """Return whether there is more than these rows, however long the file is."""
        return self.total() > done.end()[0]

    @abstractmethod
    def fingerprint(self, *, follow: bool) -> Any:
        """Return what the rows depend on, as plain data."""

    @abstractmethod
    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that the rows are what they were, if rows of it were read.

        Raises:
            StreamChangedError: when they are not.
        """

    def check_spec(self, known: Any, done: Iterable[Span]) -> None:
        """Check that what says which rows there are says so of all that are done: also of a node that has ended.

        Args:
            known: what `fingerprint` has returned before.
            done: the rows that are done with.

        Raises:
            StreamChangedError: when there are fewer, or they are others.
        """
        read = max((span.end for span in done), default=0)
        if read and self.total() < read:
            bounds = ", ".join(f"{name}={value}" for name, value in self.bounds.items() if value is not None)
            raise StreamChangedError(
                f"{self.shown}: with {bounds} there are {self.total():,} rows, and {read:,} were read; give as many "
                "or more, or start afresh with if_exists='overwrite'"
            )

    def check_resumable(self, done: Coverage) -> None:
        """Do nothing: the fingerprint tells whether the rows are others."""


def bound(source: Source, noted: Mapping[str, Mapping[str, int | None]] | None) -> None:
    """Have computed inputs end where a run has noted it (`INPUT_BOUNDS`); None: where they say."""
    for stream in streams_of(source) if noted else ():
        if isinstance(stream, ComputedStream) and noted and stream.uri in noted:
            stream.take_bounds(noted[stream.uri])
