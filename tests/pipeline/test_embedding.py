"""Runs inside of other programs: for the time of a block, or as a task of an event loop (F2)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from llm_datagen import INodeContext, NodeFailedError, Status
from llm_datagen.messages import GetStatus

from ..kit.support import PATIENCE_SECONDS, Bench, lines, nothing_left, numbered, until_cancelled


def slow(row: Any) -> Any:
    time.sleep(0.005)
    return row


class Held:
    """Holds row 100 until the run is cancelled, so that it is not over before."""

    name = "held"
    version = "1"

    def __init__(self) -> None:
        self.is_reached = False

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if item["n"] == 100:
            self.is_reached = True
            until_cancelled(ctx)
        return item


def broken(row: Any) -> Any:
    raise ValueError("broken")


def test_a_run_lasts_as_long_as_its_block_and_what_is_left_of_it(bench: Bench) -> None:
    """The block gets the actor; behind it everything is done."""
    bench.give(numbered(100))
    pipeline = bench.pipeline([slow]).create("a")
    with nothing_left(), pipeline.running() as ref:
        assert ref.ask(GetStatus(), timeout=PATIENCE_SECONDS).pipeline_id == "a"  # type: ignore[union-attr]
    report = pipeline.wait()
    assert (report.status, report.rows_out) == (Status.COMPLETED, 100)


def test_a_block_that_raises_cancels_the_run(bench: Bench) -> None:
    """Its own exception comes out; the run is saved, and can be resumed."""
    bench.give(numbered(1000))
    pipeline = bench.pipeline([Held()]).create("a")
    with nothing_left(), pytest.raises(KeyError), pipeline.running():
        raise KeyError("mine")
    assert pipeline.status is Status.CANCELED
    assert bench.run_state("a")["reason"] == "the block that it ran beside has raised KeyError"


def test_a_run_that_fails_raises_behind_the_block(bench: Bench) -> None:
    """As `run()` does."""
    bench.give(numbered(1))
    with nothing_left(), pytest.raises(NodeFailedError, match="broken"), bench.pipeline([broken]).create("a").running():
        pass


def test_an_event_loop_is_not_blocked_by_a_run(bench: Bench) -> None:
    """A call waits for what only the loop can do."""
    bench.give(numbered(3))
    go_on = threading.Event()

    def wait(row: Any) -> Any:
        assert go_on.wait(PATIENCE_SECONDS)
        return row

    async def host() -> Any:
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        return await bench.pipeline([wait]).create("a").run_async()

    with nothing_left():
        report = asyncio.run(host())
    assert (report.status, len(lines(bench.output))) == (Status.COMPLETED, 3)


def test_a_task_that_is_cancelled_cancels_its_run_and_ends_when_it_is_saved(bench: Bench) -> None:
    """M7: also when it is cancelled twice; a resume ends it."""
    bench.give(numbered(1000))
    held = Held()
    pipeline = bench.pipeline([held], parallel_size=8).create("a")

    async def host() -> None:
        task = asyncio.create_task(pipeline.run_async())
        while not held.is_reached:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with nothing_left():
        asyncio.run(host())
    assert bench.run_state("a")["status"] == "canceled"
    assert bench.run_state("a")["reason"] == "its task was cancelled"
    pipeline.resume("a").run()
    assert len(lines(bench.output)) == 1000


def test_a_failure_is_raised_to_whoever_awaits_the_run(bench: Bench) -> None:
    """As `run()` does."""
    bench.give(numbered(1))
    with nothing_left(), pytest.raises(NodeFailedError, match="broken"):
        asyncio.run(bench.pipeline([broken]).create("a").run_async())
