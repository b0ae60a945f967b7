"""Places in a stream: spans of rows, and the set of spans that is already covered.

A row has two addresses: its *ordinal* (0 for the first row of the stream) and its byte *offset*. A span holds both
for its two ends, so that reading can go on anywhere by a seek, never by counting lines again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

INPUT_STRIDE = 2**48
"""Where several streams are read as one, the rows of stream k have the numbers from ``k * INPUT_STRIDE`` on, and its
bytes as well; see `merged`. No stream is so long."""


Begin = tuple[int, int]
"""Where reading begins: the number of a row, and its address."""


class Span(NamedTuple):
    """Rows ``start`` to ``end`` (exclusive), which lie at the bytes ``offset`` to ``offset_end``."""

    start: int
    end: int
    offset: int
    offset_end: int


class Segment(NamedTuple):
    """A part of a stream still to be read; with `end` None, it goes on to the end of the stream."""

    start: int
    offset: int
    end: int | None = None
    offset_end: int | None = None


START = Segment(0, 0)
"""The segment that is a whole stream."""


class Coverage:
    """A set of rows, kept as few disjoint, ordered spans.

    Rows finish out of order, so there are holes: the rows in flight. Memory is one span per hole, never one per row.
    """

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans: list[Span] = []
        self.rows = 0
        for span in spans:
            self.add(span)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._spans, (number, float("inf"))) - 1
        return at >= 0 and number < self._spans[at].end

    def add(self, span: Span) -> bool:
        """Add `span`, merging it with its neighbours.

        Returns:
            False when some of its rows were covered already (then nothing is added), else True.
        """
        if span.start >= span.end:
            return True
        spans = self._spans
        at = bisect_right(spans, span)
        if (at and spans[at - 1].end > span.start) or (at < len(spans) and spans[at].start < span.end):
            return False
        self.rows += span.end - span.start
        if at and spans[at - 1].end == span.start:
            at -= 1
            span = Span(spans[at].start, span.end, spans[at].offset, span.offset_end)
            del spans[at]
        if at < len(spans) and spans[at].start == span.end:
            span = Span(span.start, spans[at].end, span.offset, spans[at].offset_end)
            del spans[at]
        spans.insert(at, span)
        return True

    def copy(self) -> Coverage:
        """Return a copy."""
        copy = Coverage()
        copy._spans, copy.rows = list(self._spans), self.rows
        return copy

    def remove(self, span: Span) -> None:
        """Take rows out of the set.

        Raises:
            LookupError: when they are not all in it.
        """
        at = bisect_right(self._spans, (span.start, float("inf"))) - 1
        if at < 0 or self._spans[at].end < span.end:
            raise LookupError(f"rows {span.start} to {span.end} are not all covered")
        whole = self._spans.pop(at)
        if span.end < whole.end:
            self._spans.insert(at, Span(span.end, whole.end, span.offset_end, whole.offset_end))
        if whole.start < span.start:
            self._spans.insert(at, Span(whole.start, span.start, whole.offset, span.offset))
        self.rows -= span.end - span.start

    @property
    def holes(self) -> int:
        """Rows that are not covered, and lie before some that are: the rows in flight when a run was cut off."""
        ends = {span.end // INPUT_STRIDE: span.end % INPUT_STRIDE for span in self._spans}  # of each input, the last
        return sum(ends.values()) - self.rows

    def end(self) -> tuple[int, int]:
        """Return the ordinal and the byte offset after the last covered row; (0, 0) when there is none."""
        return (self._spans[-1].end, self._spans[-1].offset_end) if self._spans else (0, 0)

    def gaps(self) -> list[Segment]:
        """Return what is not covered, in order: the holes, and all that follows the last covered row."""
        gaps: list[Segment] = []
        start, offset = 0, 0
        for span in self._spans:
            if span.start > start:
                gaps.append(Segment(start, offset, span.start, span.offset))
            start, offset = span.end, span.offset_end
        gaps.append(Segment(start, offset))
        return gaps


class FromRowZero:
    """What is read from its first row on, as all sources are but parts of an input."""

    begins_at: Begin = START[:2]
    """The number and the address of its first row."""

    def gaps(self, done: Coverage) -> list[Segment]:
        """Return what is not done, in order; the last of these segments goes on to the end."""
        return done.gaps()

    def holes(self, done: Coverage) -> int:
        """Return how many rows are not done, and lie before some that are."""
        return done.holes
