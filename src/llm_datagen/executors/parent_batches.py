"""Batches of siblings: rows that are children of one parent, for an operator that says ``batch_by="parent"``.

Which batch a row is in, its id says alone: child k of a parent is in the parent's batch ``k // batch_size``. So a batch
has the same rows whatever crashed before, and wherever in its source a node begins. A row that failed or was filtered
before is missing in its batch, and no other row takes its place.
"""

from __future__ import annotations

from collections.abc import Hashable

from llm_datagen.streams import Block
from llm_datagen.streams.ids import Id
from llm_datagen.streams.rows import item_of


class ParentBatches:
    """Says where batches begin and end in blocks of rows. Any thread may use it.

    Args:
        batch_size: rows per batch, at most.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def end(self, block: Block, begin: int) -> int:
        """Return the number of the row behind the batch in which row `begin` of a block is."""
        return self.boundary(block, begin + 1)

    def start(self, block: Block) -> int:
        """Return the number of the first row of the last batch in a block."""
        number = len(block.records) - 1
        while number > 0 and self._are_together(block, number):
            number -= 1
        return number

    def boundary(self, block: Block, number: int) -> int:
        """Return the first of the rows from `number` on that begins a batch; the end of the block if none does."""
        while number < len(block.records) and self._are_together(block, number):
            number += 1
        return number

    def _are_together(self, block: Block, number: int) -> bool:
        return self._key(block, number - 1) == self._key(block, number)

    def _key(self, block: Block, number: int) -> Hashable:
        ordinal = block.start + number
        try:
            row_id, _ = item_of(block.decode(block.records[number]), ordinal)
        except ValueError:  # it fails by itself, when it is its turn
            return None, ordinal
        return _batch_of(row_id, self._batch_size)


def _batch_of(row_id: Id, batch_size: int) -> Hashable:
    parent, mark, k = row_id.rpartition("_") if isinstance(row_id, str) else ("", "", "")
    return (parent, int(k) // batch_size) if mark and k.isdecimal() else row_id  # who has no parent is alone
