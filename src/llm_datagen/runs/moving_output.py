"""The output of a run that may go on while it is looked at: what is checked is where it was, or a little later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.streams import Stream
from llm_datagen.streams.ids import Id
from llm_datagen.streams.position import STATE, Position
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.state.compared import compare_table
from llm_datagen.streams.state.store import check_state

_TRIES = 5
"""How often a state is looked at that changes meanwhile."""


def check_state_of(output: Stream, position: Position) -> None:
    """Check the state that a commit speaks of; of a run that goes on meanwhile, that of a later one.

    Raises:
        StreamError: when it is not what the commit says.
    """
    for left in reversed(range(_TRIES)):
        try:
            check_state(output, position.marks[STATE])
            compare_table(output)
        except StreamError:
            now = _later_than(output, position)
            if now is None or not left:
                raise
            position = now
        else:
            return


def rows_until(output: Stream, position: Position, *, decode: bool = True) -> Iterator[tuple[Id, Any, int]]:
    """Yield the rows of an output, as `rows_of`; of a run that goes on meanwhile, those up to a position.

    Raises:
        StreamError: as `rows_of`.
    """
    for row in rows_of(output, decode=decode):
        if row[2] >= position.rows and _later_than(output, position) is not None:
            return
        yield row


def _later_than(output: Stream, position: Position) -> Position | None:
    """Return how far the output is written when more was committed since; None when nothing was."""
    found = position_of(output)
    if found is None or (found[1].rows, found[1].coverage.rows) == (position.rows, position.coverage.rows):
        return None
    return found[1]
