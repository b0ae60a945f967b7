"""What the tests of executors share: kernels over every shape of operator, a context, a target that keeps results."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import orjson

from llm_datagen import BaseOperator
from llm_datagen.config import FailurePolicy, IdScheme
from llm_datagen.executors.error_allowance import ErrorAllowance
from llm_datagen.executors.kernel import run_block, run_block_async
from llm_datagen.executors.processing import Processing
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators import Call, FunctionOperator
from llm_datagen.streams import Block
from llm_datagen.streams.ids import RootNames
from llm_datagen.streams.rows import Rejected
from llm_datagen.streams.storage.memory import MemoryStorage

from ..kit.actors import block_of, stream_on
from ..kit.support import PATIENCE_SECONDS


class Ctx:
    """A node's context that is cancelled when the test says so."""

    node_id = "n"
    pipeline_id = "p"
    folder = None
    state: Any = None

    def __init__(self) -> None:
        self.cancelled = False

    def is_cancelled(self) -> bool:
        """Return what the test has said."""
        return self.cancelled

    def reject(self, reason: str) -> NoReturn:
        """Leave the row out."""
        raise Rejected(reason)

    def is_paused(self) -> bool:
        """Return that it is not."""
        return False

    def report_usage(self, usage: Any) -> None:
        """Do nothing."""

    def log(self, message: str, **fields: Any) -> None:
        """Do nothing."""


SHAPES = ["item", "batch", "async item", "async batch"]
"""The ways in which an operator can be written."""


def operator_of(shape: str, func: Callable[[Any], Any]) -> FunctionOperator:
    """Return an operator of a shape that does `func` to each item."""

    def batch(items: list[Any]) -> Any:
        return [func(item) for item in items]

    async def item_later(item: Any) -> Any:
        await asyncio.sleep(0)
        return func(item)

    async def batch_later(items: list[Any]) -> Any:
        await asyncio.sleep(0)
        return [func(item) for item in items]

    functions = {"item": func, "batch": batch, "async item": item_later, "async batch": batch_later}
    return FunctionOperator(functions[shape], batch=shape.endswith("batch"), name="it")


def processing_of(
    operator: Any,
    *,
    ctx: Ctx | None = None,
    batch_size: int = 2,
    id_scheme: IdScheme = "path",
    is_root: bool = True,
    policy: FailurePolicy | None = None,
    allowance: ErrorAllowance | None = None,
    spill_folder: str | None = None,
) -> Processing:
    """Return the processing of an operator, or for a function of one item."""
    operator = operator if isinstance(operator, BaseOperator) else FunctionOperator(operator)
    stream = stream_on(MemoryStorage(), "in.jsonl")
    return Processing(
        call=Call(operator),
        source=stream,
        encoder=stream.codec.encoder(b""),
        ctx=ctx or Ctx(),
        batch_size=batch_size,
        id_scheme=id_scheme,
        root=RootNames() if is_root else None,
        policy=policy or FailurePolicy(),
        allowance=allowance,
        spill_folder=spill_folder,
    )


def run(processing: Processing, block: Block) -> BlockResult:
    """Process a block, here and now."""
    if processing.call.is_async:
        return asyncio.run(run_block_async(processing, block))
    return run_block(processing, block)


def done_of(operator: Any, values: Iterable[Any], **settings: Any) -> BlockResult:
    """Process values."""
    return run(processing_of(operator, **settings), block_of(values))


def data_of(done: BlockResult) -> bytes:
    """Return the output's bytes, wherever they are."""
    return done.data if isinstance(done.data, bytes) else b"".join(done.data)


def rows_of(done: BlockResult) -> list[Any]:
    """Return the output rows; their counts and ids must agree with what is said of them."""
    rows = [orjson.loads(line) for line in data_of(done).splitlines()]
    assert len(rows) == done.rows
    ids = [row["_i"] for row in rows]
    assert done.ids == ((ids[0], ids[-1]) if ids else (None, None))
    assert len(set(ids)) == len(ids)
    return rows


def left(done: BlockResult) -> int:
    """Return how many rows were not processed; the span and the rest must be the block, cut in two."""
    if done.rest is None:
        return 0
    assert done.rest.records
    assert done.span.end == done.rest.start
    assert done.span.offset_end == done.rest.offset
    return len(done.rest.records)


class ResultTarget:
    """Keeps results; may be full, for those who cannot wait, and may block those who can."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full
        self.gathers = True
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Semaphore(0)
        self.done: dict[int, BlockResult] = {}
        self.threads: dict[int, str] = {}
        self._changed = threading.Condition()

    def try_put(self, ended: Sequence[tuple[int, BlockResult]]) -> bool:
        """Keep them, unless full."""
        if self.is_full:
            return False
        for task, done in ended:
            self._keep(task, done)
        return True

    def put(self, task: int, done: BlockResult) -> None:
        """Keep it when the gate is open."""
        self.at_gate.release()
        assert self.gate.wait(PATIENCE_SECONDS)
        self._keep(task, done)

    def _keep(self, task: int, done: BlockResult) -> None:
        with self._changed:
            assert task not in self.done, "delivered twice"
            self.done[task] = done
            self.threads[task] = threading.current_thread().name
            self._changed.notify_all()

    def wait_for(self, count: int) -> dict[int, BlockResult]:
        """Wait until so many tasks have ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.done) >= count, PATIENCE_SECONDS), sorted(self.done)
        return self.done


def threads_of(name: str) -> list[str]:
    """Return the names of the threads of an executor."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"datagen-{name}")]


def is_running_in(prefix: str) -> bool:
    """Return whether this is called by a thread of ours."""
    assert inspect.currentframe() is not None
    return threading.current_thread().name.startswith(prefix)
