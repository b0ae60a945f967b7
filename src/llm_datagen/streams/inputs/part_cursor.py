"""Reads a part of an input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import Begin, Segment
from llm_datagen.streams.source_cursor import Described, SourceCursor
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream


class Bounded(Described, Protocol):
    """A part of an input, which may end earlier while it is read."""

    base: Stream

    @property
    def first(self) -> Begin:
        """Number and address of its first row."""

    @property
    def last(self) -> Begin:
        """Number and address of the row behind its last one."""


def clipped(segments: Sequence[Segment], first: Begin, last: Begin) -> Iterator[Segment]:
    """Yield what of some segments lies between two places, where it is anything."""
    for segment in segments:
        begin = max(first, (segment.start, segment.offset))
        end = (
            last if segment.end is None or segment.offset_end is None else min(last, (segment.end, segment.offset_end))
        )
        if begin[0] < end[0]:
            yield Segment(*begin, *end)


class PartCursor:
    """Reads some segments of an input, as far as they lie in a part. See `SourceCursor`.

    Rows stand for the bytes of a part: in many formats, nobody knows its bytes without reading all of it.

    Args:
        stream: the part; it may end earlier while it is read, see `may_end`.
        segments: what to read, in order.
    """

    def __init__(self, stream: Bounded, segments: Sequence[Segment]) -> None:
        self.stream = stream
        first, last = stream.first, stream.last
        left = list(clipped(segments, first, last))
        self._cursor: SourceCursor | None = stream.base.open_cursor(left, follow=False) if left else None
        # From this row on, nothing of the part was done when reading began.
        self._undone_from = left[-1].start if left and left[-1].end == last[0] else last[0]

    @property
    def offset(self) -> int:
        """The rows that were read."""
        return self.start

    @property
    def start(self) -> int:
        """The rows that were read."""
        if self._cursor is None or self.ended():  # what is behind the last row that was to be read is done
            return self.limit
        return self._cursor.start - self.stream.first[0]

    @property
    def limit(self) -> int:
        """How many rows there are."""
        return self.stream.last[0] - self.stream.first[0]

    @property
    def knows_end(self) -> bool:
        """Whether `limit` is where it ends: always."""
        return True

    @property
    def has_more(self) -> bool:
        """Whether there is more."""
        return not self.ended()

    def estimate(self) -> int | None:
        """Return how many rows there are."""
        return self.limit

    def extend(self, limit: int, place: Place | None = None) -> None:
        """Do nothing: it does not grow."""

    def read(self, rows: int) -> Block | None:
        """Return the next rows, `rows` at most, with their numbers in the whole input; None when there are none."""
        if self._cursor is None or self.ended():
            return None
        block, last = self._cursor.read(rows), self.stream.last[0]
        if block is None or block.end <= last:
            return block
        return block.split_at(last - block.start)[0] if block.start < last else None

    def ended(self) -> bool:
        """Return whether everything was read."""
        return self._cursor is None or self._cursor.ended() or self._cursor.start >= self.stream.last[0]

    def may_end(self, last: Begin) -> bool:
        """Return whether the part may end with the row before this one: nothing from it on was done, or handed out."""
        begun = self._undone_from if self._cursor is None else max(self._cursor.start, self._undone_from)
        return begun <= last[0] <= self.stream.last[0]

    def close(self) -> None:
        """Close the files."""
        if self._cursor is not None:
            self._cursor.close()
