"""How many rows the sources of the nodes have: counted by their readers, said by seals, or expected."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from llm_datagen.actors.node_state import NodeState
from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.messages import SourceSized
from llm_datagen.streams.storage.waiting import Interrupted


class SourceTotals:
    """Notes in the states of nodes how many rows their sources have. Used by the supervisor's thread.

    Args:
        node_states: each node's, by its id.
    """

    def __init__(self, node_states: Mapping[str, NodeState]) -> None:
        self._node_states = node_states
        self._told: dict[str, tuple[int | None, bool]] = {}

    def look_at_seal(self, opened: OpenedNode) -> None:
        """Take the number of the source's rows from its seal, if it has one: then it need not be read to be counted."""
        with contextlib.suppress(OSError, Interrupted):  # who reads it will say so
            seal = opened.source.read_seal()
            if seal is not None and seal.complete and seal.rows is not None:
                self._node_states[opened.node_id].sized(SourceSized(opened.node_id, seal.rows, is_exact=True))

    def estimate(self, running: Sequence[OpenedNode]) -> None:
        """Expect of a source that is still being written what the node that writes it is expected to write."""
        expected: dict[tuple[str, str], float | None] = {}
        for opened in running:
            if opened.sink is not None:
                expected[opened.sink.stream.place] = self._node_states[opened.node_id].expected_rows_out()
        for opened in running:
            found = [rows for place in opened.source.places if (rows := expected.get(place)) is not None]
            if len(found) == len(opened.source.places):
                self._node_states[opened.node_id].sized(SourceSized(opened.node_id, round(sum(found)), is_exact=False))

    def was_told(self, state: NodeState) -> None:
        """Note that the total of a node was told."""
        self._told[state.node_id] = (state.source_total, state.source_is_exact)

    def not_told(self, running: Sequence[OpenedNode]) -> Iterator[NodeState]:
        """Yield the states of nodes of which another total was told, or none."""
        for opened in running:
            state = self._node_states[opened.node_id]
            if self._told.get(opened.node_id, (None, False)) != (state.source_total, state.source_is_exact):
                yield state
