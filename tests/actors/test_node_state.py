"""What the supervisor knows of a node: its seconds and its rate go by the clock of the actors."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.actors.node_state import NodeState
from llm_datagen.messages import RowsCommitted, SourceSized
from llm_datagen.runs.status import Status
from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.position import Position
from llm_datagen.testing import ManualClock


def committed(done: int, rows_out: int | None = None) -> RowsCommitted:
    """Return the report that so many rows are done."""
    rows_out = done if rows_out is None else rows_out
    return RowsCommitted(
        "n", done, rows_out, 10 * done, 0, 0, 0, 0, resume_row=done, resume_offset=10 * done, done_beyond=0, holes=0
    )


def standing(*, rows_in: int, rows_out: int) -> Position:
    """Return where an output stands of which so many source rows are done."""
    return Position(rows=rows_out, coverage=Coverage([Span(0, rows_in, 0, rows_in)]))


def test_seconds_and_rate_go_by_the_clock() -> None:
    """M27: as the run state's own times do."""
    clock = ManualClock(100)
    state = NodeState("n", {}, clock)
    state.start(Position())
    state.committed(committed(0))
    clock.advance(2)
    state.committed(committed(10))
    assert (state.report().rows_per_second, state.report().seconds) == (5.0, 2.0)
    clock.advance(3)
    state.end(Status.COMPLETED)
    clock.advance(50)
    assert (state.report().rows_per_second, state.report().seconds) == (2.0, 5.0)


def test_a_node_that_did_nothing_in_this_run_keeps_the_rate_of_the_run_before() -> None:
    """A completed node has the mean of the run in which it worked, also after a resume."""
    clock = ManualClock(100)
    saved = {"rows_in": 10, "rows_per_second": 2.5}
    done = NodeState("n", saved, clock)
    done.finished_before(standing(rows_in=10, rows_out=10))
    assert done.report().rows_per_second == 2.5
    waits = NodeState("n", saved, clock)
    assert waits.report().rows_per_second == 0.0
    sealed_only = NodeState("n", saved, clock)
    sealed_only.start(standing(rows_in=10, rows_out=10))
    clock.advance(1)
    sealed_only.end(Status.COMPLETED)
    assert sealed_only.report().rows_per_second == 2.5


def test_the_rate_is_that_of_the_last_seconds_and_falls_while_nothing_is_done() -> None:
    clock = ManualClock(0)
    state = NodeState("n", {}, clock)
    state.start(Position())
    rates = []
    for _ in range(30):
        clock.advance(1)
        state.committed(committed((state.last.done if state.last else 0) + (1 if clock.monotonic() <= 15 else 5)))
        rates.append(state.report().rows_per_second)
    assert (rates[0], rates[14], rates[-1]) == (1.0, 1.0, 5.0)
    clock.advance(10)
    assert state.report().rows_per_second == 2.5


@pytest.mark.parametrize(
    ("total", "rows_in", "rows_out", "target", "expected"),
    [
        (100, 10, 10, None, 100),
        (100, 10, 5, None, 50),  # it filters
        (100, 10, 30, None, 300),  # it fans out
        (100, 10, 30, 50, 50),  # and has a target
        (100, 10, 0, None, None),  # a group, which comes at the end, or a filter
        (100, 10, 0, 50, 50),
        (None, 10, 7, None, None),
        (None, 10, 7, 50, 50),  # an input without end
        (8, 10, 20, None, 20),  # an estimate that was too low
        (100, 0, 0, None, None),
    ],
)
def test_how_many_rows_a_node_is_expected_to_write(
    total: int | None, rows_in: int, rows_out: int, target: int | None, expected: int | None
) -> None:
    state = NodeState("n", {}, ManualClock(0), target)
    state.start(standing(rows_in=rows_in, rows_out=rows_out))
    if total is not None:
        state.sized(SourceSized("n", total, is_exact=False))
    assert state.expected_rows_out() == expected
    state.end(Status.STOPPED)
    assert state.expected_rows_out() == rows_out


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    target=st.none() | st.integers(1, 100),
    low=st.integers(0, 100),
    data=st.data(),
)
def test_a_guess_is_never_beyond_what_is_possible(
    sizes: list[int], target: int | None, low: int, data: st.DataObject
) -> None:
    """It lies between what is written, and what would be if each row left gave as many as the best; or the target."""
    total = len(sizes)
    state = NodeState("n", {}, ManualClock(0), target)
    state.start(Position())
    for done in sorted(data.draw(st.sets(st.integers(1, total), min_size=1))):
        written = min(sum(sizes[:done]), target or sum(sizes))
        state.sized(SourceSized("n", max(total - low, 0) if done < total else total, is_exact=done == total))
        state.committed(committed(done, written))
        guess = state.expected_rows_out()
        most = written + (total - done) * max(sizes[:done])
        if guess is not None:
            assert written <= guess <= (most if target is None else max(written, target))
        if max(sizes[:done]) <= 1 and target is None and guess is not None:
            assert guess <= total
        report = state.report()
        assert report.total is not None
        assert report.total >= report.rows_in
