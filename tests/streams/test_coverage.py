"""Coverage, against a plain set of row numbers."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.streams import Coverage, Segment, Span

ROWS = 24
many = settings(max_examples=120, deadline=None)

row_sizes = st.lists(st.integers(1, 9), min_size=ROWS, max_size=ROWS)
pieces = st.lists(st.tuples(st.integers(0, ROWS), st.integers(0, 6)), max_size=30)


def spans_of(sizes: list[int], wanted: list[tuple[int, int]]) -> list[Span]:
    offsets = list(accumulate(sizes, initial=0))
    found = []
    for start, length in wanted:
        end = min(start + length, ROWS)
        found.append(Span(start, end, offsets[start], offsets[end]))
    return found


@many
@given(row_sizes, pieces)
def test_coverage_is_a_set_of_rows_that_refuses_what_it_has(sizes: list[int], wanted: list[tuple[int, int]]) -> None:
    """S1, S4: no row is counted twice; holes are exactly what is missing; spans are as few as can be."""
    offsets = list(accumulate(sizes, initial=0))
    coverage, model = Coverage(), set[int]()
    for span in spans_of(sizes, wanted):
        rows = set(range(span.start, span.end))
        before = list(coverage)
        is_new = not rows & model
        assert coverage.add(span) is is_new
        if is_new:
            model |= rows
        else:
            assert list(coverage) == before
        assert coverage.rows == len(model)
    spans = list(coverage)
    assert len(coverage) == len(spans)
    assert {row for span in spans for row in range(span.start, span.end)} == model
    assert all(before.end < after.start for before, after in pairwise(spans))
    assert all((span.offset, span.offset_end) == (offsets[span.start], offsets[span.end]) for span in spans)
    assert (coverage.holes == 0) == (model == set(range(len(model))))
    end = max(model) + 1 if model else 0
    assert coverage.end() == (end, offsets[end])

    *holes, rest = coverage.gaps()
    assert rest == Segment(end, offsets[end], None, None)
    missing: set[int] = set()
    for hole in holes:
        assert hole.end is not None
        assert (hole.offset, hole.offset_end) == (offsets[hole.start], offsets[hole.end])
        missing |= set(range(hole.start, hole.end))
    assert missing == set(range(end)) - model
    assert [hole.start for hole in holes] == sorted(hole.start for hole in holes)


@many
@given(row_sizes, pieces)
def test_a_copy_of_a_coverage_goes_its_own_way(sizes: list[int], wanted: list[tuple[int, int]]) -> None:
    """S1: what is being committed does not show before it is."""
    spans = spans_of(sizes, wanted)
    first = Coverage(spans[: len(spans) // 2])
    before = (list(first), first.rows)
    copy = first.copy()
    for span in spans[len(spans) // 2 :]:
        copy.add(span)
    assert (list(first), first.rows) == before
    assert Coverage(copy).rows == copy.rows


def test_nothing_covered_leaves_the_whole_stream_to_read() -> None:
    """S1: the gap of an empty coverage is a whole stream."""
    assert Coverage().gaps() == [Segment(0, 0)]
    assert Coverage().holes == 0
    assert Coverage().add(Span(5, 5, 50, 50))
    assert list(Coverage([Span(5, 5, 50, 50)])) == []
