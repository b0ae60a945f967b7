"""Runs inside of other programs: for the time of a block, or as a task of an event loop. No signals are handled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pykka

from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.pipeline.run import Run
from llm_datagen.runs.status import RunReport


@contextlib.contextmanager
def run_during(run: Run) -> Iterator[pykka.ActorRef[PipelineActor]]:
    """Start `run`, and wait for its end behind the block; when the block raises, cancel it first.

    Raises:
        NodeFailedError: when a node failed, and the block has not raised.
    """
    ref = run.start()
    try:
        yield ref
    except BaseException as error:
        run.cancel(f"the block that it ran beside has raised {type(error).__name__}")
        run.wait()
        raise
    run.wait()
    run.raise_failure()


async def run_beside(run: Run) -> RunReport:
    """Start `run` and wait for its end without blocking the event loop.

    Raises:
        NodeFailedError: when a node failed.
        CancelledError: when the task was cancelled; the run was, too, and everything is saved.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    cancelled: asyncio.CancelledError | None = None

    def tell_loop() -> Any:
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(ended.set)

    run.start()
    run.when_over(tell_loop)
    while not ended.is_set():
        try:
            await ended.wait()
        except asyncio.CancelledError as error:
            cancelled = error
            run.cancel("its task was cancelled")
    run.wait()
    if cancelled is not None:
        raise cancelled
    run.raise_failure()
    return run.report()
