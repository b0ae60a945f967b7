"""Work: what a worker does with a block of rows: decode, call the operator, name and encode what it returned.

Nothing here knows threads or actors. A `Kernel` is made once a node and used by all of its workers at once; a
`BlockRun` is one worker's way through one block. Outcomes are data: whatever the operator does, `run` returns a
`BlockResult`.

A block may hold many calls' worth of rows. Two things see to it that a slow row holds up no others that were grouped
with it: the node takes rows away that were not begun (`Claims`), and after `SLICE_SECONDS` a worker stops by itself
and hands the rest back.
"""

from __future__ import annotations

import contextlib

from llm_datagen.config import BatchBy, FailurePolicy, IdScheme
from llm_datagen.executors.allowance import Allowing
from llm_datagen.executors.block_run import BlockRun
from llm_datagen.executors.claims import Claims
from llm_datagen.executors.parent_batches import ParentBatches
from llm_datagen.executors.result import BlockResult
from llm_datagen.executors.retry import Retries
from llm_datagen.operators import Call, INodeContext
from llm_datagen.streams import Block, Encoder, Stream
from llm_datagen.streams.ids import RootNames


class Kernel:
    """How rows of one node are processed.

    Args:
        call: the operator.
        source: the stream that the blocks come from (for error messages).
        encoder: the output's format.
        ctx: what the operator is given beside its items.
        batch_size: items a call of an operator that takes batches gets.
        batch_by: which items share such a call; see `BatchBy`.
        id_scheme: how children are named.
        root: how rows are named when the source is the pipeline's input; None when they have ids.
        policy: how often a call that raised is made again.
        allowance: who says whether more rows may fail when `max_errors` bounds them; None: nobody, and each failure
            is handed to the node.
        spill_folder: where children of a row go that are too many to be held in memory; None holds them all the same.
        slice_seconds: how long a worker goes on through a block before it hands the rest back; None: `SLICE_SECONDS`.
        calls_per_check: cheap calls between two checks of the time and of a cancel: 1, or 2, 4, 8…
    """

    def __init__(
        self,
        call: Call,
        *,
        source: Stream,
        encoder: Encoder,
        ctx: INodeContext,
        batch_size: int = 1,
        batch_by: BatchBy = "position",
        id_scheme: IdScheme = "path",
        root: RootNames | None = None,
        policy: FailurePolicy | None = None,
        allowance: Allowing | None = None,
        spill_folder: str | None = None,
        slice_seconds: float | None = None,
        calls_per_check: int = 16,
    ) -> None:
        self.call = call
        self.source = source
        self.encoder = encoder
        self.ctx = ctx
        self.step = batch_size if call.batch else 1
        self.batch_by = batch_by
        self.parent_batches = ParentBatches(batch_size) if batch_by == "parent" and call.batch else None
        self.id_scheme = id_scheme
        self.root = root
        self.policy = policy or FailurePolicy()
        self.retries = Retries(self.policy)
        self.allowance = allowance
        self.is_halted = False
        """Whether a call has failed that ends the node: no worker begins another one."""
        self.is_paused = False
        """Whether the node is paused: no worker begins another call, and what was not called is handed back."""
        self.spill_folder = spill_folder
        self.slice_seconds = slice_seconds
        self.calls_per_check = calls_per_check

    def survives(self, rows: int, settled: int) -> bool:
        """Return whether a worker goes on after rows that failed; else it hands the rest back, and the node decides.

        Args:
            rows: how many failed in a call.
            settled: how many of its task are done before them.
        """
        if self.policy.on_error == "fail":
            return False
        if self.policy.max_errors is None:
            return True
        return self.allowance is not None and self.allowance.take(rows, settled)

    def is_interrupted(self) -> bool:
        """Return whether no call is to be made now: the run is paused, or being cancelled."""
        return self.is_paused or self.ctx.is_cancelled()

    def run(self, block: Block, claims: Claims | None = None) -> BlockResult:
        """Process `block`, as far as its rows can be claimed, in this thread."""
        block_run = BlockRun(self, block, claims or Claims(len(block.records)))
        call, ctx = self.call, self.ctx
        while True:
            try:
                if call.batch and self.step > 1:
                    while (items := block_run.take_batch()) is not None:
                        block_run.settle_batch(call(items, ctx))
                else:
                    block_run.run_items(self.call)
                break
            except BaseException as error:  # noqa: BLE001 - not even SystemExit may leave a worker (H9)
                pause = block_run.fail(error)
                if pause is None:
                    break
                if pause:
                    self.retries.sleep(pause, self.is_interrupted)
        result = block_run.result()
        del block, block_run  # the tracebacks of what failed lead here
        return result

    async def run_async(self, block: Block, claims: Claims | None = None) -> BlockResult:
        """Process `block`, as far as its rows can be claimed, with an async operator, on the event loop."""
        import asyncio

        block_run = BlockRun(self, block, claims or Claims(len(block.records)))
        call, ctx = self.call, self.ctx
        while True:
            try:
                if self.call.batch:
                    while (items := block_run.take_batch()) is not None:
                        block_run.settle_batch(await call(items, ctx))
                else:
                    while (given := block_run.take_item()) is not None:
                        row_id, item = given
                        block_run.settle_item(row_id, item, await call(item, ctx))
                break
            except BaseException as error:  # noqa: BLE001
                pause = block_run.fail(error)
                if pause is None:
                    break
                if pause:
                    with contextlib.suppress(asyncio.CancelledError):  # an operator that cancels itself is called again
                        await self.retries.sleep_async(pause, self.is_interrupted)
        result = block_run.result()
        del block, block_run  # the tracebacks of what failed lead here
        return result
