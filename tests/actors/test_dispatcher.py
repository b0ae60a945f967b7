"""The dispatcher: how many tasks there are at once (M10, M11)."""

from __future__ import annotations

from typing import Any, cast

import pytest

from llm_datagen.actors.delivery import Delivery
from llm_datagen.actors.dispatcher import Dispatcher, DispatchTimer
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.executors.base import Executor
from llm_datagen.streams import Block

from ..kit.actors import block_of
from .nodes import Bench

MIB = 1024 * 1024


class FakeExecutor:
    """Takes tasks, of which so many may wait for a worker, and begins none."""

    is_gil_bound = False
    task_seconds = 0.004

    def __init__(self, spare_tasks: int) -> None:
        self.spare_tasks = spare_tasks
        self.tasks: list[int] = []

    def submit(self, task: int, block: Block) -> None:
        """Take a task."""
        self.tasks.append(task)


@pytest.mark.parametrize(("size", "waiting"), [(100, 8), (MIB // 4, 8), (MIB, 4), (10 * MIB, 1)])
def test_tasks_that_wait_for_a_worker_take_four_mebibytes_or_are_one(size: int, waiting: int) -> None:
    """M11: those that workers have are as large as they are; large rows are not held without need."""
    bench = Bench()
    opened = bench.opened(lambda item: item, parallel_size=8)
    executor = FakeExecutor(spare_tasks=8)
    delivery = Delivery(cast(Any, bench.writer), bench.reader, sync=False)
    dispatcher = Dispatcher(opened, cast(Executor, executor), delivery, Mailbox(), None)
    text = "x" * size
    dispatcher.backlog.add(block_of([text] * 32))
    dispatcher.on_timer(DispatchTimer.PATIENCE)
    dispatcher.hand_out()
    assert len(executor.tasks) == 8 + waiting
