"""A worker process: what runs in it. Its other end is `handle.WorkerProcess`.

It gets one task at a time and answers it. Between the two it may send usage and log lines, and ask for what only the
engine's own process knows. A second thread listens to the engine: it receives a cancel while a call runs, and
ends this process at once when the engine has gone.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from dataclasses import replace
from typing import Any

from llm_datagen.errors import FailureRecord, RemoteError
from llm_datagen.executors.kernel import run_block
from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.engine import Engine, FirstRowEncoder, RemoteAllowance, RemoteSource, WorkerContext
from llm_datagen.executors.process.pickling import pack_error
from llm_datagen.executors.process.setup import WorkerSetup
from llm_datagen.executors.process.spawn import channel_of_this_process
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.state_watch import StateWatch
from llm_datagen.messages.block_result import BlockResult, OperatorFailure
from llm_datagen.operators import Call
from llm_datagen.streams import Block


def main() -> None:
    """Be a worker, until the engine says that it is enough, or goes."""
    try:
        _serve(channel_of_this_process())
    except BrokenPipeError:
        os._exit(1)  # the engine has gone


def _serve(channel: Channel) -> None:
    engine = Engine(channel)
    setup: WorkerSetup = channel.receive()
    engine.listen()
    try:
        sys.path[:] = setup.sys_path
        operator, codec = pickle.loads(setup.packed)
        encoder = FirstRowEncoder(engine, codec)
        processing = _processing(engine, setup, operator, encoder)
        _call(operator, "setup")
        watch = StateWatch(operator, processing.ctx)
        watch.begin()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the engine hears of it
        engine.tell("failed", FailureRecord.of(error), pack_error(error))
        return
    engine.tell("ready")
    decode: Any = None
    while (message := engine.next())[0] == "task":
        _, (records, start, offset, offset_end, ends), packed = message
        if packed is not None:
            decode = pickle.loads(packed)
        if isinstance(records, bytes):
            records = pickle.loads(records)
        block = Block(records, start, offset, offset_end, ends, decode)
        result = run_block(processing, block)
        engine.tell("done", *_parts(result))
        if processing.encoder is encoder and encoder.settled is not None:
            processing = replace(processing, encoder=encoder.settled)
        del message, records, block, result
    failure: tuple[Any, ...] = (None, None)
    try:
        watch.end()
        _call(operator, "teardown")
    except BaseException as error:  # noqa: BLE001
        failure = FailureRecord.of(error), pack_error(error)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    engine.tell("ended", *failure)


def _processing(engine: Engine, setup: WorkerSetup, operator: Any, encoder: FirstRowEncoder) -> Processing:
    source: Any = RemoteSource(engine)
    return Processing(
        call=Call(operator),
        source=source,
        encoder=encoder,
        ctx=WorkerContext(engine, setup),
        batch_size=setup.batch_size,
        batch_by=setup.batch_by,
        id_scheme=setup.id_scheme,
        root=setup.root,
        policy=setup.policy,
        keep_rejected=setup.keep_rejected,
        allowance=RemoteAllowance(engine),
        slice_seconds=setup.slice_seconds,
        calls_per_check=4,  # nobody can take rows away from here
        gate=engine.gate,
    )


def _call(operator: Any, method: str) -> None:
    found = getattr(operator, method, None)
    if found is not None:
        found()


def _parts(result: BlockResult) -> tuple[Any, ...]:
    """Return a result without what the engine has itself: the rest, and the items that failed."""
    failures = [*result.survived, *([] if result.failure is None else [result.failure])]
    told = [(_bare(failure), pack_error(failure.error), bool(failure.items)) for failure in failures]
    bare = replace(result, rest=None, failure=None if result.failure is None else _bare(result.failure), survived=())
    return bare, result.rest is not None, told


def _bare(failure: OperatorFailure) -> OperatorFailure:
    return replace(failure, error=RemoteError(), items=[])
