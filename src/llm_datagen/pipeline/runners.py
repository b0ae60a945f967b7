"""Ways to run: in the foreground, with signals handled; beside a block, or as a task of an event loop, without."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

import pykka

from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.executors import signals
from llm_datagen.pipeline.run import SLICE_SECONDS, Run
from llm_datagen.runs.run_report import RunReport


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
        run.cancel(f"the block that it ran beside has raised {type(error).__name__}", keep_jobs=True)
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
            run.cancel("its task was cancelled", keep_jobs=True)
    run.wait()
    if cancelled is not None:
        raise cancelled
    run.raise_failure()
    return run.report()


def run_in_foreground(run: Run) -> RunReport:
    """Start `run` and wait for its end, whatever that is.

    In the main thread, the first Ctrl+C or SIGTERM cancels it, and a second one ends the process at once (M25);
    the handlers that were installed before are put back. In other threads no handler is touched.

    Raises:
        NodeFailedError: when it failed; from the original exception.
        KeyboardInterrupt: after Ctrl+C, when everything is saved.
        SystemExit: with 143 after SIGTERM, when everything is saved.
    """
    news: SimpleQueue[int] = SimpleQueue()  # a signal; or 0: the run has ended
    came = 0
    with contextlib.ExitStack() as put_back:
        try:
            put_back.enter_context(_signals_told(news))
        except BaseException as error:
            run.abandon(error)
            raise
        run.start()
        run.when_over(lambda: news.put(0))
        while not run.is_over():
            with contextlib.suppress(Empty):
                number = news.get(timeout=SLICE_SECONDS)
                if number and not came:
                    came = number
                    run.cancel(signal.Signals(came).name, keep_jobs=True)
        run.wait()
    run.raise_failure()
    if came:
        if came == signal.SIGINT:
            raise KeyboardInterrupt(run.saved())
        raise SystemExit(128 + signal.SIGTERM)
    return run.report()


@contextlib.contextmanager
def _signals_told(news: SimpleQueue[int]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        # Any lock may be held by the code that is interrupted here. A SimpleQueue needs none: its put() may come in the
        # middle of its own get(), and wakes it at once.
        news.put(number)

    with contextlib.ExitStack() as put_back:
        put_back.callback(signals.put_back)
        for number in (signal.SIGINT, signal.SIGTERM):
            signals.install(number, on_signal)
        yield
