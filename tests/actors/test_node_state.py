"""What the supervisor knows of a node: its seconds and its rate go by the clock of the actors."""

from __future__ import annotations

from llm_datagen.actors.node_state import NodeState
from llm_datagen.messages import RowsCommitted
from llm_datagen.runs.status import Status
from llm_datagen.streams.position import Position
from llm_datagen.testing import ManualClock


def committed(done: int) -> RowsCommitted:
    """Return the report that so many rows are done."""
    return RowsCommitted(
        "n", done, done, 10 * done, 0, 0, 0, resume_row=done, resume_offset=10 * done, done_beyond=0, holes=0
    )


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
