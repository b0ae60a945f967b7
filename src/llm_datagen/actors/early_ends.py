"""Which nodes of a run end before their inputs do: their targets are met, or nobody needs them any more."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.runs.unneeded import unneeded


class EarlyEnds:
    """The nodes that end early. Used by the supervisor's thread.

    Args:
        opened_nodes: the nodes of the run, each behind those that it reads from.

    Attributes:
        unneeded: the ids of those that nobody needs.
    """

    def __init__(self, opened_nodes: Sequence[OpenedNode]) -> None:
        self._nodes = opened_nodes
        self._met = {opened.node_id for opened in opened_nodes if opened.has_met_target}
        self.unneeded = {opened.node_id for opened in opened_nodes if not opened.is_needed}
        self._look()

    def __contains__(self, node_id: object) -> bool:
        """Return whether a node ends early."""
        return node_id in self._met or node_id in self.unneeded

    def add(self, node_id: str) -> None:
        """Add a node that has met its target."""
        self._met.add(node_id)
        self._look()

    def _look(self) -> None:
        found = unneeded(
            self._nodes,
            reads=OpenedNode.reads,
            has_target=lambda opened: opened.target is not None,
            has_met_target=lambda opened: opened.node_id in self._met,
        )
        self.unneeded.update(opened.node_id for opened in found if opened.sink is not None)
