"""What becomes of the rows of a worker process that died.

Nobody knows which of them killed it. A task of many calls is done again in smaller parts, each smaller than the one
before, until a single call is found that kills its process; everything else comes out. That call is then treated as
one that raised: it is made again, its batch is halved, or its rows have failed, with a `WorkerDiedError`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from llm_datagen.errors import FailureRecord, StopRun, WorkerDiedError
from llm_datagen.executors.joined_results import joined
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.row_input import RowInput, excerpt
from llm_datagen.messages.block_result import BlockResult, OperatorFailure
from llm_datagen.streams import Block
from llm_datagen.streams.dead_letters import UNPARSED, row_or_unparsed

PARTS = 16
"""A task whose process died is divided into so many parts: a death costs a start, a small part hardly anything."""


class _Part(NamedTuple):
    """Rows that are to be done.

    Attributes:
        block: the rows.
        is_divided: whether they are less than the call that they belong to.
        attempts: processes that they have killed as a single call.
    """

    block: Block
    is_divided: bool = False
    attempts: int = 0


class CrashIsolation:
    """The way of one block through processes that may die. Used by one thread.

    Args:
        processing: the node's.
        block: the rows.
        may_repeat: whether rows that were in a process that died may be called again.
    """

    def __init__(self, processing: Processing, block: Block, *, may_repeat: bool) -> None:
        self._processing = processing
        self._block = block
        self._may_repeat = may_repeat
        self._parts = [_Part(block)]  # the next one last
        self._results: list[BlockResult] = []
        self._failure: OperatorFailure | None = None
        self._is_over = False

    def next(self) -> Block | None:
        """Return the rows to be done next; None when there are none, or a call has failed, or no call may begin now."""
        if self._is_over or not self._parts or self._processing.is_interrupted():
            return None
        return self._parts[-1].block

    def came(self, result: BlockResult) -> None:
        """Take what came of the rows that `next` has returned."""
        part = self._parts.pop()
        has_died = bool(self._parts or self._results or part.is_divided or part.attempts)
        self._results.append(result)
        if result.failure is not None:
            self._is_over, self._failure = True, result.failure
        elif result.rest is not None:
            if has_died:  # go on here, where the parts are small
                self._parts.append(_Part(result.rest, part.is_divided))
            else:
                self._is_over = True

    def died(self, error: WorkerDiedError) -> None:
        """Handle the death of the process that had the rows that `next` has returned."""
        part = self._parts.pop()
        call = self._processing.call
        rows, step = len(part.block.records), self._processing.step
        if not self._may_repeat:
            self._fail(part, error, is_unknown=True)
        elif rows > step:
            self._divide(part, max(step, -(-rows // (PARTS * step)) * step))
        elif (not part.is_divided or rows == 1) and (pause := self._pause_after(part.attempts + 1)) is not None:
            self._parts.append(part._replace(attempts=part.attempts + 1))
            self._processing.retries.sleep(pause, self._processing.is_interrupted)
        elif rows > 1 and call.bisect:
            self._divide(part._replace(is_divided=True), rows // 2)
        else:
            self._fail(part, error)

    def end(self, error: BaseException) -> None:
        """End without a process: none can be started, or used. The node has failed, or stops."""
        is_stop = isinstance(error, StopRun)
        failure = failure_of(self._processing, self._block, 0, error, is_fatal=not is_stop)
        self._is_over, self._failure = True, replace(failure, is_stop=is_stop)

    def _pause_after(self, attempts: int) -> float | None:
        return self._processing.retries.pause_after(attempts)

    def _divide(self, part: _Part, size: int) -> None:
        parts = []
        rest = part.block
        parent_batches = self._processing.parent_batches
        while len(rest.records) > size:
            end = size if parent_batches is None or part.is_divided else parent_batches.boundary(rest, size)
            head, rest = rest.split_at(end)
            parts.append(_Part(head, part.is_divided))
        self._parts += reversed([*parts, _Part(rest, part.is_divided)])

    def _fail(self, part: _Part, error: WorkerDiedError, *, is_unknown: bool = False) -> None:
        rows = len(part.block.records)
        failure = failure_of(self._processing, part.block, rows, error, attempts=part.attempts + 1)
        self._is_over, self._failure = True, replace(failure, is_unknown=is_unknown)

    def result(self) -> BlockResult:
        """Return what became of the block."""
        block, results = self._block, self._results
        if len(results) == 1 and not self._parts and results[0].failure is self._failure:
            return results[0]
        head, rest = block.split_at(sum(result.source_rows for result in results))
        whole = joined(results or [BlockResult(head.span)])
        return replace(whole, span=head.span, rest=rest if rest.records else None, failure=self._failure)


def failed_items(processing: Processing, block: Block, numbers: range) -> list[Any]:
    """Return the items of some records of a block; those that cannot be parsed are left out."""
    rows = (row_or_unparsed(block, number, processing.source, processing.root) for number in numbers)
    return [item for _, item in rows if item is not UNPARSED]


def failure_of(
    processing: Processing, block: Block, rows: int, error: BaseException, *, attempts: int = 1, is_fatal: bool = False
) -> OperatorFailure:
    """Return the failure of the first rows of a block, with their dead letters."""
    record = FailureRecord.of(error)
    known = [row_or_unparsed(block, number, processing.source, processing.root) for number in range(rows)]
    dead_letters = b""
    if processing.policy.on_error == "dead_letter" and not is_fatal:
        row_input = RowInput(block, processing.source, processing.root)
        node_id = processing.ctx.node_id
        dead_letters = row_input.dead_letters(range(rows), node_id=node_id, error=record, attempts=attempts)
    items = [item for _, item in known if item is not UNPARSED]
    ids = tuple(row_id for row_id, _ in known)
    return OperatorFailure(
        record,
        error,
        items,
        ids,
        rows,
        dead_letters,
        is_fatal=is_fatal,
        row=block.start,
        offset=block.offset_after(0),
        excerpt=excerpt(block.records[0]) if rows else "",
    )
