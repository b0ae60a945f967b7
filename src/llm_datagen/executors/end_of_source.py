"""The end of a source: an operator is asked once for what it has left to give, and all of it is one outcome.

Its rows are named ``end_0``, ``end_1`` … When the call fails, nothing of it counts, neither rows nor state.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterable, Awaitable, Iterable, Iterator
from typing import Any

from llm_datagen.errors import FailureRecord, StopRun
from llm_datagen.errors.advice import a_kind
from llm_datagen.executors.failures import is_final
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.row_output import RowOutput
from llm_datagen.messages.block_result import BlockResult, OperatorFailure
from llm_datagen.streams import Span


class _CancelledError(Exception):
    """Raised to leave a call when the run is cancelled."""


class EndRun:
    """The call of an operator's `finish`, and calls of it again. Used by one worker.

    Args:
        processing: how rows are processed.
        rows: rows in the source, and its bytes: what the outcome follows.
    """

    def __init__(self, processing: Processing, rows: tuple[int, int]) -> None:
        self._processing = processing
        self._rows, self._bytes = rows
        self._output = self._new_output()
        self._failure: OperatorFailure | None = None
        self._is_cancelled = False
        self._attempts = 0
        self._started, self._cpu_started = time.perf_counter(), time.thread_time()

    def _new_output(self) -> RowOutput:
        processing = self._processing
        return RowOutput(processing.encoder, processing.id_scheme, processing.spill_folder)

    def begin(self) -> None:
        """Begin a call."""
        self._attempts += 1
        self._output = self._new_output()
        if self._processing.state is not None:
            self._processing.state.begin()

    def settle(self, rows: Any) -> None:
        """Take what the operator returned: rows as a list or a generator; None for none."""
        if rows is not None:
            if isinstance(rows, str | dict) or not isinstance(rows, Iterable):
                raise TypeError(
                    f"finish must return a list of rows, yield them, or return None, not {a_kind(type(rows))}"
                )
            self._output.settle(self._processing.end_name, None, self._until_cancelled(rows))
        if self._processing.state is not None:
            self._processing.state.keep()

    def _until_cancelled(self, rows: Iterable[Any]) -> Iterator[Any]:
        for row in rows:
            if self._processing.ctx.is_cancelled():
                raise _CancelledError
            yield row

    def fail(self, error: BaseException) -> float | None:
        """Return the seconds to wait before the call is made again; None when it is not."""
        if isinstance(error, _CancelledError):
            self._is_cancelled = True
            return None
        may_repeat = isinstance(error, Exception) and not is_final(error)
        pause = self._processing.retries.pause_after(self._attempts) if may_repeat else None
        if pause is None:
            record = FailureRecord.of(error)
            self._failure = OperatorFailure(
                record, error, [], rows=0, is_fatal=True, is_stop=isinstance(error, StopRun), row=self._rows
            )
        return pause

    def result(self) -> BlockResult:
        """Return the outcome."""
        span = Span(self._rows, self._rows, self._bytes, self._bytes)
        if self._failure is not None or self._is_cancelled:
            return BlockResult(span, failure=self._failure)
        output, state = self._output, self._processing.state
        return BlockResult(
            span,
            rows=output.rows,
            data=output.data(),
            ids=(output.first, output.last),
            calls=1,
            seconds=time.perf_counter() - self._started,
            cpu_seconds=time.thread_time() - self._cpu_started,
            state=None if state is None else state.take(),
            is_end=True,
        )


def run_end(processing: Processing, rows: tuple[int, int]) -> BlockResult:
    """Ask the operator for what it has left, in this thread."""
    run = EndRun(processing, rows)
    finish = processing.call.finish
    while finish is not None:
        run.begin()
        try:
            run.settle(finish(processing.ctx))
            break
        except BaseException as error:  # noqa: BLE001 - as in the kernel
            pause = run.fail(error)
            if pause is None:
                break
            processing.retries.sleep(pause, processing.is_interrupted)
    return run.result()


async def run_end_async(processing: Processing, rows: tuple[int, int]) -> BlockResult:
    """Ask an operator whose `finish` is `async`, on the event loop; what it yields is collected in memory."""
    import asyncio

    run = EndRun(processing, rows)
    finish = processing.call.finish
    while finish is not None:
        run.begin()
        try:
            found = finish(processing.ctx)
            if isinstance(found, AsyncIterable):
                found = [row async for row in found]
            elif isinstance(found, Awaitable):
                found = await found
            run.settle(found)
            break
        except BaseException as error:  # noqa: BLE001
            pause = run.fail(error)
            if pause is None:
                break
            with contextlib.suppress(asyncio.CancelledError):  # an operator that cancels itself is called again
                await processing.retries.sleep_async(pause, processing.is_interrupted)
    return run.result()
