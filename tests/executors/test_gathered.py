"""Results of an event loop that go on together, and what is done before they do (M10, M11, M20)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from llm_datagen import BaseOperator
from llm_datagen.executors import event_loop
from llm_datagen.executors.event_loop import EventLoopExecutor, spare_tasks_of_loop
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators.before_delivery import before_delivery

from ..kit.actors import block_of
from ..kit.support import PATIENCE_SECONDS, eventually
from .helpers import ResultTarget, processing_of


class Batches(ResultTarget):
    """Notes which results came together."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []

    def try_put(self, ended: Sequence[tuple[int, BlockResult]]) -> bool:
        if self.is_full:
            return False
        self.batches.append([number for number, _ in ended])
        return super().try_put(ended)


class Gated(BaseOperator):
    """Ends the calls of the rows that a test lets go on."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.items: dict[int, Any] = {}
        self.loop: asyncio.AbstractEventLoop | None = None

    async def process_item(self, item: Any, ctx: Any) -> Any:
        self.loop = asyncio.get_running_loop()
        number = item["n"]
        self.items[number] = item
        gate = self.gates[number] = asyncio.Event()
        self.begun.append(number)
        await gate.wait()
        self.ends(number)
        return item

    def ends(self, number: int) -> None:
        """Do what the test says, at the end of a call."""

    def let(self, *numbers: int) -> None:
        """Let calls end, all in one turn of the loop."""
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self._open, numbers)

    def _open(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.gates[number].set()


def started(operator: BaseOperator, target: ResultTarget, rows: int, workers: int) -> EventLoopExecutor:
    executor = EventLoopExecutor("n", operator, processing_of(operator), target, workers)
    executor.start()
    for number in range(rows):
        executor.submit(number, block_of([{"n": number}], number))
    return executor


def test_calls_that_end_in_one_turn_of_the_loop_are_delivered_in_one() -> None:
    operator, target = Gated(), Batches()
    executor = started(operator, target, 8, 8)
    eventually(lambda: len(operator.begun) == 8)
    operator.let(1, 3, 5)
    target.wait_for(3)
    operator.let(*{0, 2, 4, 6, 7})
    target.wait_for(8)
    executor.stop()
    assert target.batches == [[1, 3, 5], [0, 2, 4, 6, 7]]


def test_while_results_are_gathered_other_calls_begin_and_no_more_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is not delayed by what waits for others; of results, no more wait than tasks would."""
    monkeypatch.setattr(event_loop, "GATHER_SECONDS", PATIENCE_SECONDS)
    workers, spare = 16, spare_tasks_of_loop(16)
    half = spare // 2
    operator, target = Gated(), Batches()
    executor = started(operator, target, workers + spare, workers)
    eventually(lambda: len(operator.begun) == workers)
    operator.let(0)
    eventually(lambda: len(operator.begun) == workers + 1, "the next one, before the result is delivered")
    assert target.batches == []
    operator.let(*range(1, half))  # half of the spare ones are left: the node has to know
    target.wait_for(half)
    assert target.batches == [[*range(half)]]
    operator.let(*range(half, workers))
    eventually(lambda: len(operator.begun) == workers + spare)
    operator.let(*range(workers, workers + spare))
    target.wait_for(workers + spare)
    executor.stop()


def test_large_results_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """M11: the writer takes 16 MiB, or one result: many large ones in one message would be let in as one."""
    monkeypatch.setattr(event_loop, "GATHER_SECONDS", PATIENCE_SECONDS)

    class Large(Gated):
        def ends(self, number: int) -> None:
            self.items[number]["text"] = "x" * 300_000

    operator, target = Large(), Batches()
    executor = started(operator, target, 32, 16)
    eventually(lambda: len(operator.begun) == 16)
    for number in range(3):
        operator.let(number)
    eventually(lambda: len(operator.begun) == 19)
    assert target.batches == []
    operator.let(*range(3, 12))
    target.wait_for(12)
    assert [len(batch) for batch in target.batches] == [4, 4, 4]
    operator.let(*range(12, 16))
    target.wait_for(16)
    operator.let(*range(16, 32))
    target.wait_for(32)
    executor.stop()


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_before_delivery_is_done_once_for_all_that_go_on_together(fails: bool) -> None:
    """Whatever becomes of it, the results are delivered, and what is full takes none of them twice."""
    done: list[tuple[str, int]] = []
    may_end = threading.Event()
    target = Batches()

    class Noting(Gated):
        def ends(self, number: int) -> None:
            add = before_delivery.get()
            assert add is not None
            add(self.write)

        async def write(self) -> None:
            done.append(("begun", len(target.done)))
            while not may_end.is_set():
                await asyncio.sleep(0.001)
            done.append(("written", len(target.done)))
            if fails:
                raise ValueError("on purpose")

    operator = Noting()
    executor = started(operator, target, 5, 5)
    executor._loop.set_exception_handler(lambda *_: None)
    eventually(lambda: len(operator.begun) == 5)
    operator.let(0, 1, 2)
    eventually(lambda: done == [("begun", 0)])
    operator.let(3)
    eventually(lambda: done == [("begun", 0)] * 2, "what ends meanwhile has a step of its own")
    may_end.set()
    target.wait_for(4)
    assert sorted(target.batches) == [[0, 1, 2], [3]]
    target.is_full = True
    operator.let(4)
    target.wait_for(5)
    executor.stop()
    assert [what for what, _ in done].count("written") == 3
    assert done.count(("written", 4)) == 1


def test_an_end_waits_for_the_steps_of_the_last_results() -> None:
    """F2: `stop` returns when all that has ended is delivered."""
    target = Batches()

    class Noting(Gated):
        def ends(self, number: int) -> None:
            add = before_delivery.get()
            assert add is not None
            add(self.write)

        async def write(self) -> None:
            await asyncio.sleep(0.05)

    operator = Noting()
    executor = started(operator, target, 3, 3)
    eventually(lambda: len(operator.begun) == 3)
    operator.let(0, 1, 2)
    executor.stop()
    assert sorted(target.done) == [0, 1, 2]
