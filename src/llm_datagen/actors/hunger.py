"""A node that has nothing to do says so to those that it reads from: one may wait for it (`max_lead`)."""

from __future__ import annotations

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.actors.stage import tell
from llm_datagen.messages.lead import Starving, TellStarving
from llm_datagen.streams import Block


class Hunger:
    """Tells that a node cannot go on without more rows. Used by the node's own thread.

    Args:
        opened: the node.
    """

    def __init__(self, opened: OpenedNode) -> None:
        self._node_id = opened.node_id
        self._tellers: list[TellStarving] = []
        self._told: dict[int, int] = {}
        self._blocks = 0
        self._rows = opened.position.coverage.end()[0]

    def add(self, teller: TellStarving) -> None:
        """Take a node that is to know it."""
        self._tellers.append(teller)

    def was_given(self, block: Block) -> None:
        """Take that rows have come."""
        self._blocks += 1
        self._rows = block.end

    def tell(self) -> None:
        """Tell it, once until rows come."""
        for number, teller in enumerate(self._tellers):
            if self._told.get(number) != self._blocks:
                self._told[number] = self._blocks
                tell(teller.to, Starving(self._node_id, self._rows if teller.counts else None))
