"""Reads a part of an input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import Begin, Segment
from llm_datagen.streams.source_cursor import Described, SourceCursor
from llm_datagen.streams.storage.base import Place
from llm_datagen.streams.stream import Stream


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
        stream: the part.
        base: the input.
        segments: what to read, in order.
        first: number and address of the first row of the part.
        last: number and address of the row behind its last one.
    """

    def __init__(self, stream: Described, base: Stream, segments: Sequence[Segment], first: Begin, last: Begin) -> None:
        self.stream = stream
        self._first = first[0]
        self.limit = last[0] - first[0]
        left = list(clipped(segments, first, last))
        self._cursor: SourceCursor | None = base.open_cursor(left, follow=False) if left else None

    @property
    def offset(self) -> int:
        """The rows that were read."""
        return self.start

    @property
    def start(self) -> int:
        """The rows that were read."""
        if self._cursor is None or self._cursor.ended():  # what is behind the last row that was to be read is done
            return self.limit
        return self._cursor.start - self._first

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
        return None if self._cursor is None else self._cursor.read(rows)

    def ended(self) -> bool:
        """Return whether everything was read."""
        return self._cursor is None or self._cursor.ended()

    def close(self) -> None:
        """Close the files."""
        if self._cursor is not None:
            self._cursor.close()
