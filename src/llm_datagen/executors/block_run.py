"""A block run: one worker's way through one block of rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

from llm_datagen.executors.claims import Claims
from llm_datagen.executors.failures import Failures, is_final
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.row_input import RowInput
from llm_datagen.executors.row_output import STOW_ROWS, RowOutput
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.operators import Call
from llm_datagen.streams import Block
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, Id
from llm_datagen.streams.rows import Rejected

_NOTHING = object()
_SETTLED = object()


def _release_frame(error: BaseException) -> None:
    """Let an exception, which hooks may hold for long, not hold the block that its row was in."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is BlockRun.run_items.__code__:
            trace.tb_frame.clear()
            return
        trace = trace.tb_next


class BlockRun:
    """One way through one block. Used by one worker.

    Args:
        processing: how rows are processed.
        block: the rows.
        claims: which of them are left to this worker.
    """

    def __init__(self, processing: Processing, block: Block, claims: Claims) -> None:
        self._processing = processing
        self._block = block
        self._input = RowInput(block, processing.source, processing.root)
        self._numbers = claims.numbers
        self._claimed = 0  # records that were begun, or will be
        self._settled = 0  # records whose outcome is known
        self._output = RowOutput(
            processing.encoder,
            processing.id_scheme,
            processing.spill_folder,
            keeps_rejected=processing.keep_rejected,
        )
        self._calls = 0
        self._given: tuple[Sequence[Id], list[Any]] = ((), [])
        self._failures = Failures(processing, self._input, block.start)
        self._attempts = 0  # of the call that is being made, or is to be made again
        self._parts: list[int] = []  # rows of the calls that a failed batch was divided into, the next one last
        self._started = time.perf_counter()
        # On an event loop, other calls compute meanwhile.
        self._cpu_started = None if processing.call.is_async else time.thread_time()
        self._deadline = self._started + processing.slice_seconds

    def _may_call(self) -> bool:
        """Return whether another call may be made: time is left, nothing has failed, nobody paused or cancelled."""
        processing, gate = self._processing, self._processing.gate
        if self._failures.last or gate.is_halted or gate.is_paused or processing.ctx.is_cancelled():
            return False
        is_begun = bool(self._parts or self._attempts)  # what was begun is brought to its end
        if self._failures.are_too_large and not is_begun:
            return False
        return not self._settled or is_begun or time.perf_counter() < self._deadline

    # Items.

    def run_items(self, call: Call) -> None:  # noqa: PLR0915 - a call for each step would cost more than the step
        """Process items, or batches of one, one by one: the loop that decides how fast a cheap operator runs.

        It does what `take_item` and `settle_item` do, with the common case (an object in, an object out) inline.
        """
        if not self._may_call():
            return
        records, decode, start = self._block.records, self._block.decode, self._block.start
        func, takes_ctx, is_batch = call.func, call.takes_ctx, call.batch
        processing = self._processing
        ctx, root, check_mask = processing.ctx, processing.root, processing.calls_per_check - 1
        output = self._output
        settle, made, add, encode = (
            output.settle,
            output.records,
            output.records.append,
            self._processing.encoder.encode,
        )
        is_plain, first, last = output.marks is None, output.first, output.last
        has_prefix = root is not None and bool(root.prefix)
        state = processing.state
        settled_before = self._settled
        number = settled_before - 1
        row_id: Id = start
        item: Any = _NOTHING
        try:
            for number in chain(range(settled_before, self._claimed), self._numbers):
                row_id, item = start + number, _NOTHING
                try:
                    value = decode(records[number])
                except ValueError as error:
                    raise self._input.error(error, number) from error
                if value.__class__ is not dict or (len(value) <= 2 and DATA_FIELD in value):
                    row_id, item = self._input.named(number, value)
                elif root:
                    if ID_FIELD in value:
                        row_id, item = self._input.named(number, value)
                    else:
                        if has_prefix:
                            row_id = root.name(start + number)
                        value[ID_FIELD] = row_id
                        item = value
                elif (found := value.get(ID_FIELD)).__class__ is int or found.__class__ is str:
                    row_id, item = found, value
                else:
                    row_id, item = self._input.named(number, value)
                if state is not None:
                    state.begin()
                if is_batch:
                    result = call([item], ctx)
                    if result.__class__ is list and len(result) == 1:
                        result = result[0]
                    else:  # no result, or several rows; or nothing that an operator may return
                        output.last = last
                        output.settle_all((row_id,), (item,), result)
                        first, last = output.first, output.last
                        result = _SETTLED
                else:
                    result = func(item, ctx) if takes_ctx else func(item)
                if (
                    result is item
                    and is_plain
                    and result.__class__ is dict
                    and (len(result) > 2 or DATA_FIELD not in result)
                ):
                    result[ID_FIELD] = row_id
                    try:
                        add(encode(result))
                    except TypeError:
                        add(output.encode(result))
                    last = row_id
                    if first is None:
                        output.first = first = row_id
                elif result is not _SETTLED:
                    output.last = last
                    settle(row_id, item, result)
                    first, last = output.first, output.last
                if state is not None:
                    state.keep()
                if not number & check_mask:
                    self._settled, self._attempts = number + 1, 0
                    if not self._may_call():
                        break
                    if len(made) >= STOW_ROWS:
                        output.stow()
        except BaseException:
            is_called = item is not _NOTHING
            self._given = ((row_id,), [item] if is_called else [])
            self._calls += int(is_called)
            self._settled = number
            raise
        else:
            self._settled = number + 1
        finally:
            output.last = last
            self._claimed = max(self._claimed, number + 1)
            self._calls += self._settled - settled_before
            if self._settled > settled_before:
                self._attempts = 0

    @property
    def given_ids(self) -> tuple[Id, ...]:
        """The ids of the rows that were given to the call that is being made."""
        return tuple(self._given[0])

    def take_item(self) -> tuple[Id, Any] | None:
        """Return the next row's id and item; None when there is nothing more to do."""
        if not self._begin(1):
            return None
        self._given = ((), [])  # if it cannot be parsed
        row_id, item = self._input.one(self._settled)
        self._given = ((row_id,), [item])
        self._calls += 1
        return row_id, item

    def settle_item(self, row_id: Id, item: Any, result: Any) -> None:
        """Take what the operator returned for one item."""
        self._output.settle(row_id, item, result)
        self._keep_state()
        self._settled += 1
        self._attempts = 0

    # Batches.

    def take_batch(self) -> list[Any] | None:
        """Return the items of the next batch, or of the next part of a batch that failed; None when there is none.

        A row that cannot be parsed ends the batch before it: it fails alone, and costs the others nothing.
        """
        if not self._begin(self._rows_of_next_call()):
            return None
        begin = self._settled
        end = begin + self._parts[-1] if self._parts else self._claimed
        self._given = ((), [])  # if not even the first one can be parsed
        self._given = self._input.batch(begin, end)
        self._calls += 1
        return self._given[1].copy()  # the list is the operator's own

    def _rows_of_next_call(self) -> int:
        parent_batches, begin = self._processing.parent_batches, self._claimed
        if parent_batches is None or begin >= len(self._block.records):
            return self._processing.step
        return parent_batches.end(self._block, begin) - begin

    def settle_batch(self, results: Any) -> None:
        """Take what the operator returned for a batch."""
        ids, items = self._given
        self._output.settle_all(ids, items, results)
        self._keep_state()
        self._settled += len(ids)
        self._attempts = 0
        self._take_off(len(ids))

    def _take_off(self, rows: int) -> None:
        """Take rows off the parts that are still to be called."""
        if self._parts:
            self._parts[-1] -= rows
            if not self._parts[-1]:
                self._parts.pop()

    # Both.

    def _begin(self, count: int) -> bool:
        """Claim the next rows, unless some that were claimed are left; return whether there is a call to be made."""
        if not self._may_call():
            return False
        if self._claimed == self._settled:
            self._claimed += len(list(islice(self._numbers, count)))
        if self._processing.state is not None:
            self._processing.state.begin()
        return self._claimed > self._settled

    def _keep_state(self) -> None:
        """Let what a call has changed of the state count, since its results do."""
        if self._processing.state is not None:
            self._processing.state.keep()

    def fail(self, error: BaseException) -> float | None:
        """Handle the failure of the call that was being made. What was settled before it stays settled.

        Returns:
            Seconds to wait before going on: the same call again, or, when it was a batch, with half of it, or
            the next rows when the policy lets the node go on without these. None when no more calls are made: then
            `result` says why.
        """
        _release_frame(error)
        ids, items = self._given
        if isinstance(error, Rejected) and items:
            if not self._processing.call.batch:
                self.settle_item(ids[0], items[0], error)
                return 0.0
            error = TypeError("process_batch raised Rejected: return it in the place of each row that is rejected")
        if not items:  # the row could not be parsed
            ids = [self._input.unparsed_id(self._settled)]
        rows = len(ids)
        may_repeat = bool(items) and isinstance(error, Exception) and not is_final(error)
        if may_repeat and (not self._parts or rows == 1):  # halves are tried once: they only look for the row at fault
            self._attempts += 1
            pause = self._processing.retries.pause_after(self._attempts)
            if pause is not None:
                return pause
        if may_repeat and rows > 1 and self._processing.call.bisect:
            self._take_off(rows)
            self._parts += [rows - rows // 2, rows // 2]
            self._attempts = 0
            return 0.0
        attempts = max(self._attempts, 1) if items else 0
        if not self._failures.add(error, self._settled, ids, items, attempts=attempts):
            return None
        self._settled += rows
        self._attempts = 0
        self._parts = []  # what is left of a batch is a batch
        if len(self._output.records) >= STOW_ROWS:
            self._output.stow()
        return 0.0

    def result(self) -> BlockResult:
        """Return what became of the rows that were this worker's: those that it claimed, and those that nobody did."""
        block, output = self._block, self._output
        failures = self._failures
        survived, failures.survived = tuple(failures.survived), []  # their tracebacks lead back here
        failed = sum(failure.rows for failure in survived)
        is_dead_lettered = self._processing.policy.on_error == "dead_letter"
        end = self._claimed + len(list(self._numbers))
        rest: Block | None = None
        if end < len(block.records):
            block, _ = block.split_at(end)  # what follows was taken away
        if self._settled < end:
            block, rest = block.split_at(self._settled)
        return BlockResult(
            span=block.span,
            rows=output.rows,
            data=output.data(),
            filtered=output.filtered,
            rejected=output.rejected,
            rejections=b"".join(output.rejections),
            ids=(output.first, output.last),
            marks=None if output.marks is None else output.marks.ranges,
            rest=rest,
            failure=failures.last,
            skipped=0 if is_dead_lettered else failed,
            dead=failed if is_dead_lettered else 0,
            dead_letters=b"".join(failures.dead_letters),
            survived=survived,
            calls=self._calls,
            seconds=time.perf_counter() - self._started,
            cpu_seconds=0.0 if self._cpu_started is None else time.thread_time() - self._cpu_started,
            state=None if self._processing.state is None else self._processing.state.take(),
        )
