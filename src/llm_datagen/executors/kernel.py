"""The kernel: what a worker does with a block of rows. Decode, call the operator, name and encode what it returned.

Nothing here knows threads or actors. A `Processing` is made once per node; a `BlockRun` is one worker's way through one
block. Outcomes are data: whatever the operator does, a `BlockResult` is returned.

A block may hold many calls' worth of rows. Two things keep a slow row from holding up others that were grouped with it:
the node takes away rows that were not begun (`Claims`), and after `SLICE_SECONDS` a worker stops by itself and hands
the rest back.
"""

from __future__ import annotations

import contextlib

from llm_datagen.executors.block_run import BlockRun
from llm_datagen.executors.claims import Claims
from llm_datagen.executors.processing import Processing
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators.current_rows import current_rows
from llm_datagen.streams import Block


def run_block(processing: Processing, block: Block, claims: Claims | None = None) -> BlockResult:
    """Process `block`, as far as its rows can be claimed, in this thread."""
    run = BlockRun(processing, block, claims or Claims(len(block.records)))
    call, ctx = processing.call, processing.ctx
    while True:
        try:
            if call.batch and processing.step > 1:
                while (items := run.take_batch()) is not None:
                    run.settle_batch(call(items, ctx))
            else:
                run.run_items(call)
            break
        except BaseException as error:  # noqa: BLE001 - not even SystemExit may leave a worker (H9)
            pause = run.fail(error)
            if pause is None:
                break
            if pause:
                processing.retries.sleep(pause, processing.is_interrupted)
    result = run.result()
    del block, run  # the tracebacks of what failed lead here
    return result


async def run_block_async(processing: Processing, block: Block, claims: Claims | None = None) -> BlockResult:
    """Process `block`, as far as its rows can be claimed, with an async operator, on the event loop."""
    import asyncio

    run = BlockRun(processing, block, claims or Claims(len(block.records)))
    call, ctx = processing.call, processing.ctx
    while True:
        try:
            if call.batch:
                while (items := run.take_batch()) is not None:
                    current_rows.set(run.given_ids)
                    run.settle_batch(await call(items, ctx))
            else:
                while (given := run.take_item()) is not None:
                    row_id, item = given
                    current_rows.set((row_id,))
                    run.settle_item(row_id, item, await call(item, ctx))
            break
        except BaseException as error:  # noqa: BLE001
            pause = run.fail(error)
            if pause is None:
                break
            if pause:
                with contextlib.suppress(asyncio.CancelledError):  # an operator that cancels itself is called again
                    await processing.retries.sleep_async(pause, processing.is_interrupted)
    result = run.result()
    del block, run  # the tracebacks of what failed lead here
    return result
