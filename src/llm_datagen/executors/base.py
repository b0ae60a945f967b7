"""The interface between a node and its workers: an executor decides where calls are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Block

TASK_SECONDS = 0.004
"""How long a task of a cheap operator should take on a thread: it costs about 0.1 ms."""

MAX_SPARE_TASKS = 8
"""Tasks that wait for one of many workers, at most."""


def spare_tasks_of(workers: int) -> int:
    """Return how many tasks may wait for one of so many workers."""
    return min(workers // 8, MAX_SPARE_TASKS)


class ResultTarget(Protocol):
    """Where the results of tasks go."""

    @property
    def gathers(self) -> bool:
        """Whether results are the cheaper when several are put together, and may wait for that."""

    def try_put(self, ended: Sequence[tuple[int, BlockResult]]) -> bool:
        """Deliver the results of some tasks without blocking; return False, with nothing done, if not possible now."""

    def put(self, task: int, result: BlockResult) -> None:
        """Deliver, blocking while the writer is full (and, in sync mode, until the rows are committed)."""


class Executor(Protocol):
    """Runs tasks. The node calls it from its own thread, and bounds how many run at once.

    Attributes:
        spare_tasks: tasks that it may be given beyond its number of workers; they wait until one is free, in order.
        task_seconds: how long a task of a cheap operator should take.
        is_gil_bound: whether its workers are threads that hold Python's global lock while they compute.
    """

    spare_tasks: int
    task_seconds: float
    is_gil_bound: bool

    def start(self) -> None:
        """Get ready, and call the operator's `setup`; what that raises comes out here."""

    def submit(self, task: int, block: Block) -> None:
        """Run the operator over `block` and put the result into the target. Returns at once; never raises later."""

    def submit_end(self, task: int, rows: tuple[int, int]) -> None:
        """Ask the operator for what it has left, and put that into the target. Returns at once; never raises later.

        Args:
            task: the task's number.
            rows: rows in the source, and its bytes.
        """

    def left(self, task: int) -> int:
        """Return how many rows of a task were not begun; 0 when that is not known."""

    def cut(self, task: int) -> int | None:
        """Take the rows that were not begun away from a task.

        Returns:
            How many rows the task keeps, and whose results will come; None when it keeps all.
        """

    def resize(self, workers: int) -> None:
        """Have another number of workers, and of `spare_tasks`. What runs is not broken off. Returns at once."""

    def deliver(self, task: int, result: BlockResult) -> None:
        """Put a result that took no call into the target, off the caller's thread. Returns at once."""

    def stop(self, *, wait: bool = True) -> None:
        """Wait for what runs, call the operator's `teardown`, and leave no thread behind.

        Args:
            wait: False gives up what runs: async calls are cancelled, threads that are stuck are left behind.
        """
