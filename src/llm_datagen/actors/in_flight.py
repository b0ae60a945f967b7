"""The tasks in flight: blocks of rows that a node has handed out, and that have not come back."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from itertools import islice

from llm_datagen.executors.base import Executor
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Block
from llm_datagen.streams.ids import Id, RootNames
from llm_datagen.streams.rows import named

IDS_SHOWN = 10
"""Ids of rows in flight that a node names, at most."""


@dataclass(slots=True)
class _Task:
    """Rows that were handed out."""

    block: Block
    size: int
    """Bytes that count as in flight."""
    left: int = -1
    """Rows that were not begun when it was last checked; -1: it was not, or waits for a worker."""


class InFlight:
    """What the workers have, and what waits for one of them. Used by the node's own thread.

    A slow row holds up no others that were grouped with it: a task that is `late` is `cut`, and the node hands out
    again what was taken from it.

    Args:
        executor: who runs them.
        step: rows per call.
        workers: calls at once, at most.
        root: how rows of the pipeline's input are named; None when they have ids.

    Attributes:
        made: tasks that there have been.
        bytes: bytes of the rows in flight, without those of tasks that were cut.
    """

    def __init__(self, executor: Executor, *, step: int, workers: int, root: RootNames | None) -> None:
        self._executor = executor
        self._step = step
        self.workers = workers
        self._root = root
        self._running: dict[int, _Task] = {}
        self.made = 0
        self.bytes = 0

    def __len__(self) -> int:
        """Return how many are in flight."""
        return len(self._running)

    def hand_out(self, block: Block) -> None:
        """Give rows to the workers."""
        self._executor.submit(self._add(block, block.size), block)

    def deliver(self, block: Block, result: BlockResult) -> None:
        """Have a result delivered that took no call."""
        self._executor.deliver(self._add(block, 0), result)

    def submit_end(self, rows: tuple[int, int]) -> None:
        """Have the operator asked for what it has left at the end of its source: so many rows and bytes."""
        count, size = rows
        nothing = Block([], count, size, size, None, lambda record: record)
        self._executor.submit_end(self._add(nothing, 0), rows)

    def _add(self, block: Block, size: int) -> int:
        self.made += 1
        self._running[self.made] = _Task(block, size)
        self.bytes += size
        return self.made

    def take(self, number: int) -> None:
        """Remove a task that has come back."""
        task = self._running.pop(number, None)  # not there: it was given up
        if task is not None:
            self.bytes -= task.size

    def give_up(self) -> None:
        """Forget all of them."""
        self._running.clear()
        self.bytes = 0

    @property
    def rows(self) -> int:
        """Rows that the workers have, those included that wait for one of them."""
        return sum(len(task.block.records) for task in self._running.values())

    @property
    def grouped(self) -> int:
        """Tasks of more than one call."""
        return sum(self._is_grouped(task) for task in self._running.values())

    def _is_grouped(self, task: _Task) -> bool:
        return len(task.block.records) > self._step

    def late(self) -> list[int]:
        """Return the grouped tasks that have been in one and the same call since this was last asked."""
        late: list[int] = []
        for number, task in self._running.items():
            if self._is_grouped(task):
                left = self._executor.left(number)
                if left and left == task.left:
                    late.append(number)
                task.left = left if left < len(task.block.records) else -1  # one that waits for a worker is not late
        return late

    def cut(self, number: int) -> Block | None:
        """Take from a task the rows that were not begun; return them, None when there are none."""
        task = self._running[number]
        self.bytes -= task.size
        task.size = 0
        left_over = self._executor.cut(number)
        if left_over is None:
            return None
        task.block, rest = task.block.split_at(left_over)
        return rest

    def cut_all(self) -> list[Block]:
        """Take from all tasks the rows that were not begun; return them."""
        return [rest for number in self._running if (rest := self.cut(number)) is not None]

    @property
    def largest(self) -> int:
        """Rows of the largest task; 0 when there is none."""
        return max((len(task.block.records) for task in self._running.values()), default=0)

    @property
    def rows_begun(self) -> int:
        """Rows that the workers have."""
        return sum(len(block.records) for block in self._begun())

    def ids_begun(self) -> tuple[Id, ...]:
        """Return the ids of the first rows that the workers have: the only time that a node reads rows."""
        ids: list[Id] = []
        for block in self._begun():
            for number, record in enumerate(block.records[: IDS_SHOWN - len(ids)]):
                row_id: Id = block.start + number
                with contextlib.suppress(ValueError):
                    row_id = named(block.decode(record), block.start + number, self._root)[0]
                ids.append(row_id)
        return tuple(ids)

    def _begun(self) -> list[Block]:
        """Return what the workers have; other tasks wait for one of them."""
        return [task.block for task in islice(self._running.values(), self.workers)]
