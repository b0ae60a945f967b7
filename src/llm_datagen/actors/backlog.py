"""The backlog: rows that a node was sent and has not yet handed out."""

from __future__ import annotations

import sys
from collections import deque

from llm_datagen.executors.parent_batches import ParentBatches
from llm_datagen.streams import Block

JOINED_BYTES = 1024 * 1024
"""Blocks of items are joined until they take so many bytes."""


class Backlog:
    """Blocks in source order, handed out in pieces.

    Batches lie on a grid: rows ``n*step`` to ``(n+1)*step`` of the source are one batch, whatever blocks they came
    in and whatever crashed before, so that what an operator makes of a batch does not depend on timing. A batch is
    handed out short only where the rows to be done end.

    Args:
        step: rows per batch; 0 when the operator takes items.
        parent_batches: where batches end, when they do not lie on a grid.
    """

    def __init__(self, step: int, parent_batches: ParentBatches | None = None) -> None:
        self._step = step
        self._parent_batches = parent_batches
        self._blocks: deque[Block] = deque()
        self._is_closed = False
        self.rows = 0
        self.bytes = 0

    @property
    def start(self) -> int:
        """The ordinal of the first row; 0 when there is none."""
        return self._blocks[0].start if self._blocks else 0

    def add(self, block: Block) -> None:
        """Add rows at the end."""
        self._count(block, 1)
        self._blocks.append(block)

    def put_back(self, block: Block) -> None:
        """Put rows back that were handed out and not processed: at the place where they were."""
        self._count(block, 1)
        at = next((i for i, other in enumerate(self._blocks) if other.start > block.start), len(self._blocks))
        self._blocks.insert(at, block)

    def close(self) -> None:
        """Declare that no more rows will be added."""
        self._is_closed = True

    def take(self, rows: int) -> Block | None:
        """Return the next rows, about `rows` of them; None when there are none, or not yet a whole batch."""
        if not self._blocks:
            return None
        if self._parent_batches is not None:
            return self._take_parent_batches(rows, self._parent_batches)
        if self._step:
            return self._take_batches(rows)
        return self._pop(rows)

    def _pop(self, rows: int) -> Block:
        block = self._joined_up_to(rows, JOINED_BYTES)
        if len(block.records) > rows:
            block, rest = block.split_at(rows)
            self._blocks.appendleft(rest)
        self._count(block, -1)
        return block

    def _joined_up_to(self, rows: int, max_bytes: int = sys.maxsize) -> Block:
        """Take off the first block, joined with those that follow it at once until it is so large."""
        block = self._blocks.popleft()
        while len(block.records) < rows and self._blocks and self._blocks[0].start == block.end:
            if block.size >= max_bytes:
                break
            after = self._blocks.popleft()
            self.bytes += after.offset - block.offset_end  # of blank lines between them
            block = block.joined(after)
        return block

    def _take_batches(self, rows: int) -> Block | None:
        """Take whole batches, or what is left before a gap or the end."""
        to_grid = -self.start % self._step  # not 0 only behind rows that an earlier run has done
        wanted = to_grid or max(rows // self._step, 1) * self._step
        block = self._joined_up_to(wanted)
        have = min(len(block.records), wanted)
        is_all = self._is_closed or bool(self._blocks)  # what follows, if anything, does not follow at once
        self._blocks.appendleft(block)
        if have < wanted and not is_all:
            have = 0 if to_grid else have // self._step * self._step
        return self._pop(have) if have else None

    def _take_parent_batches(self, rows: int, parent_batches: ParentBatches) -> Block | None:
        """Take one batch, or about so many rows, but no part of a batch of which more may come."""
        block = self._joined_up_to(rows + self._step)
        is_all = self._is_closed or bool(self._blocks)
        have = len(block.records) if is_all else parent_batches.start(block)
        self._blocks.appendleft(block)
        least = 1 if rows <= self._step else min(rows, have)
        have = min(parent_batches.boundary(block, least), have)
        return self._pop(have) if have else None

    def _count(self, block: Block, sign: int) -> None:
        self.rows += sign * len(block.records)
        self.bytes += sign * block.size
