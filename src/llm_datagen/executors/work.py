"""Work: what a worker does with a block of rows: decode, call the operator, name and encode what it returned.

Nothing here knows threads or actors. A `Kernel` is made once a node and used by all of its workers at once; a
`Pass` is one worker's way through one block. Outcomes are data: whatever the operator does, `run` returns a `Done`.

A block may hold many calls' worth of rows. After `SLICE_SECONDS` a worker stops between two calls and hands the rest
back, so that a slow row never holds up others that were grouped with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Self

from llm_datagen.config import FailurePolicy, IdScheme
from llm_datagen.errors import FailureRecord, IdError
from llm_datagen.executors.retries import Retries
from llm_datagen.ids import DATA_FIELD, ID_FIELD, Id, child_maker, span_id
from llm_datagen.operators import Call, INodeContext
from llm_datagen.streams import Block, Encoder, Span, Stream
from llm_datagen.streams.letters import UNPARSED, letter
from llm_datagen.streams.rows import as_row, named

if TYPE_CHECKING:
    from llm_datagen.messages import OperatorFailure

SLICE_SECONDS = 0.02
"""How long a worker goes on through a block before it looks whether to hand the rest back."""

_LOOK_EVERY = 16  # items within that time, between two looks whether the run is being cancelled

_NOTHING = object()


@dataclass(slots=True)
class Done:
    """What became of a block.

    Attributes:
        span: the source rows that are done; they are the first rows of the block.
        rows: output rows.
        data: the output rows, encoded.
        filtered: source rows that gave no row.
        ids: ids of the first and the last output row.
        marks: what the id scheme must remember, or None.
        rest: the rows that were not processed.
        failure: why not, if the operator failed: the first rows of `rest` are those that failed.
        skipped: source rows that failed and are left out.
        dead: source rows that failed and are dead-lettered.
        letters: the dead letters, encoded.
        calls: calls of the operator that were made.
        seconds: seconds that they took, with decoding and encoding.
    """

    span: Span
    rows: int
    data: bytes = field(repr=False)
    filtered: int
    ids: tuple[Id | None, Id | None]
    marks: dict[str, Any] | None
    rest: Block | None
    failure: OperatorFailure | None
    calls: int
    seconds: float
    skipped: int = 0
    dead: int = 0
    letters: bytes = field(default=b"", repr=False)

    @classmethod
    def without_rows(cls, span: Span, *, skipped: int = 0, dead: int = 0, letters: bytes = b"") -> Self:
        """Return the outcome of source rows that failed and are done with all the same."""
        return cls(
            span=span,
            rows=0,
            data=b"",
            filtered=0,
            ids=(None, None),
            marks=None,
            rest=None,
            failure=None,
            calls=0,
            seconds=0.0,
            skipped=skipped,
            dead=dead,
            letters=letters,
        )


class Kernel:
    """How rows of one node are processed.

    Args:
        call: the operator.
        source: the stream that the blocks come from (for error messages).
        encoder: the output's format.
        ctx: what the operator is given beside its items.
        batch_size: items a call of an operator that takes batches gets.
        id_scheme: how children are named.
        is_root: whether the source is the pipeline's input, whose rows are named by their number.
        policy: how often a call that raised is made again.
        slice_seconds: how long a worker goes on through a block before it hands the rest back; None: `SLICE_SECONDS`.
    """

    def __init__(
        self,
        call: Call,
        *,
        source: Stream,
        encoder: Encoder,
        ctx: INodeContext,
        batch_size: int = 1,
        id_scheme: IdScheme = "path",
        is_root: bool = False,
        policy: FailurePolicy | None = None,
        slice_seconds: float | None = None,
    ) -> None:
        self.call = call
        self.source = source
        self.encoder = encoder
        self.ctx = ctx
        self.step = batch_size if call.batch else 1
        self.id_scheme = id_scheme
        self.is_root = is_root
        self.retries = Retries(policy or FailurePolicy())
        self.slice_seconds = SLICE_SECONDS if slice_seconds is None else slice_seconds

    def run(self, block: Block) -> Done:
        """Process `block` in this thread."""
        work = Pass(self, block)
        while work.goes_on():
            try:
                if self.call.batch:
                    work.settle_batch(self.call.func(work.take_batch(self.step), self.ctx))
                else:
                    work.run_items(self.call.func)
            except BaseException as error:  # noqa: BLE001 - not even SystemExit may leave a worker (H9)
                pause = work.fail(error)
                if pause is None:
                    break
                self.retries.sleep(pause, self.ctx)
        return work.done()

    async def run_async(self, block: Block) -> Done:
        """Process `block` with an async operator, on the event loop."""
        import asyncio

        work = Pass(self, block)
        while work.goes_on():
            try:
                if self.call.batch:
                    work.settle_batch(await self.call.func(work.take_batch(self.step), self.ctx))
                else:
                    row_id, item = work.take_item()
                    work.settle_item(row_id, item, await self.call.func(item, self.ctx))
            except BaseException as error:  # noqa: BLE001
                pause = work.fail(error)
                if pause is None:
                    break
                with contextlib.suppress(asyncio.CancelledError):  # an operator that cancels itself is called again
                    await self.retries.sleep_async(pause, self.ctx)
        return work.done()


class Pass:
    """One way through one block. Used by one worker."""

    def __init__(self, kernel: Kernel, block: Block) -> None:
        self._kernel = kernel
        self._block = block
        self._encode = kernel.encoder.encode
        self._child = child_maker(kernel.id_scheme)
        self._numbers = _Numbers() if kernel.id_scheme == "numeric" else None
        self._out: list[bytes] = []
        self._filtered = 0
        self._first: Id | None = None
        self._last: Id | None = None
        self._settled = 0  # records whose outcome is known
        self._calls = 0
        self._given: tuple[Sequence[Id], list[Any]] = ((), [])
        self._failure: OperatorFailure | None = None
        self._attempts = 0  # of the call that is being made, or is to be made again
        self._parts: list[int] = []  # rows of the calls that a failed batch was divided into, the next one last
        self._started = time.perf_counter()
        self._deadline = self._started + kernel.slice_seconds

    def goes_on(self) -> bool:
        """Return whether another call is to be made: rows are left, time is left, nobody cancelled."""
        if self._failure or self._settled >= len(self._block.records) or self._kernel.ctx.is_cancelled():
            return False
        is_begun = bool(self._parts or self._attempts)  # what was begun is brought to its end
        return not self._settled or is_begun or time.perf_counter() < self._deadline

    def run_items(self, func: Callable[[Any, INodeContext], Any]) -> None:
        """Process items one by one: the loop that decides how fast a cheap operator runs.

        It does what `take_item` and `settle_item` do, with the common case (an object in, an object out) inline.
        """
        records, decode, start = self._block.records, self._block.decode, self._block.start
        ctx, is_root, put, settle = self._kernel.ctx, self._kernel.is_root, self._put, self._settle
        is_plain, now, deadline = self._numbers is None, time.perf_counter, self._deadline
        row_id: Id = start
        item: Any = _NOTHING
        settled_before = self._settled
        try:
            while self.goes_on():
                for number in range(self._settled, min(self._settled + _LOOK_EVERY, len(records))):
                    row_id, item = start + number, _NOTHING
                    try:
                        value = decode(records[number])
                    except ValueError as error:
                        raise self._row_error(error, number) from error
                    if is_root and value.__class__ is dict and not (len(value) == 2 and DATA_FIELD in value):
                        value[ID_FIELD] = row_id
                        item = value
                    else:
                        row_id, item = self._named(number, value)
                    result = func(item, ctx)
                    if result is item and is_plain and result.__class__ is dict and len(result) > 2:
                        result[ID_FIELD] = row_id
                        put(row_id, result)
                    else:
                        settle(row_id, item, result)
                    self._settled = number + 1
                    if self._attempts:
                        self._attempts = 0
                    if now() >= deadline:
                        break
        except BaseException:
            is_called = item is not _NOTHING
            self._given = ((row_id,), [item] if is_called else [])
            self._calls += is_called
            raise
        finally:
            self._calls += self._settled - settled_before

    def take_item(self) -> tuple[Id, Any]:
        """Return the next row's id and item."""
        number = self._settled
        row_id, item = self._decode(number)
        self._given = ((row_id,), [item])
        self._calls += 1
        return row_id, item

    def take_batch(self, count: int) -> list[Any]:
        """Return the items of the next `count` rows, or of the next part of a batch that failed.

        A row that cannot be parsed ends the batch before it: it fails alone, and costs the others nothing.
        """
        count = self._parts[-1] if self._parts else count
        ids: list[Id] = []
        items: list[Any] = []
        for number in range(self._settled, min(self._settled + count, len(self._block.records))):
            try:
                row_id, item = self._decode(number)
            except ValueError:
                if not ids:
                    raise
                break
            ids.append(row_id)
            items.append(item)
        self._given = (ids, items)
        self._calls += 1
        return items.copy()  # the list is the operator's own

    def _decode(self, number: int) -> tuple[Id, Any]:
        self._given = ((self._block.start + number,), [])
        return self._named(number, self._decoded(number))

    def _decoded(self, number: int) -> Any:
        try:
            return self._block.decode(self._block.records[number])
        except ValueError as error:
            raise self._row_error(error, number) from error

    def _row_error(self, error: ValueError, number: int) -> ValueError:
        return self._kernel.source.row_error(error, self._block.offset_after(number))

    def _named(self, number: int, value: Any) -> tuple[Id, Any]:
        try:
            return named(value, self._block.start + number, is_root=self._kernel.is_root)
        except ValueError as error:
            raise self._row_error(error, number) from error

    def settle_item(self, row_id: Id, item: Any, result: Any) -> None:
        """Take what the operator returned for one item."""
        self._settle(row_id, item, result)
        self._settled += 1
        self._attempts = 0

    def settle_batch(self, results: Any) -> None:
        """Take what the operator returned for a batch."""
        if results is None:
            raise TypeError("process_batch returned None; to filter the whole batch, return an empty list")
        if isinstance(results, GeneratorType):
            results = list(results)
        elif not isinstance(results, list | tuple):
            raise TypeError(f"process_batch must return a list, not a {type(results).__name__}")
        ids, items = self._given
        before = self._mark()
        try:
            if len(results) == len(ids) and not _is_reordered(ids, results):
                for row_id, item, result in zip(ids, items, results, strict=True):
                    self._settle(row_id, item, result)
            else:
                self._settle_flat(ids, results)
        except BaseException:
            self._back_to(before)
            raise
        self._settled += len(ids)
        self._attempts = 0
        self._take_off(len(ids))

    def _take_off(self, rows: int) -> None:
        """Take rows off the parts that are still to be called."""
        if self._parts:
            self._parts[-1] -= rows
            if not self._parts[-1]:
                self._parts.pop()

    def _settle(self, row_id: Id, item: Any, result: Any) -> None:
        if result is None:
            self._filtered += 1
        elif isinstance(result, list | GeneratorType):
            self._settle_children(row_id, result)
        else:
            if result.__class__ is not dict and isawaitable(result):
                _close(result)
                raise TypeError("the operator returned a coroutine; make it `async def`, so that it is awaited")
            if result is item and result.__class__ is dict and not (len(result) <= 2 and DATA_FIELD in result):
                result[ID_FIELD] = row_id  # the worker's own copy, decoded for this call
            else:
                result = as_row(result, row_id)
            if self._numbers is None:
                self._put(row_id, result)
            else:
                self._put_kept(row_id, result, self._numbers)

    def _put_kept(self, row_id: Id, row: dict[str, Any], numbers: _Numbers) -> None:
        before = self._mark()
        try:
            numbers.kept(row_id)
            self._put(row_id, row)
        except BaseException:
            self._back_to(before)
            raise

    def _settle_children(self, row_id: Id, children: Iterable[Any]) -> None:
        before = self._mark()
        try:
            for k, child in enumerate(children):
                if child is not None:
                    child_id = self._child(row_id, k)
                    if self._numbers is not None:
                        self._numbers.made(child_id)
                    self._put(child_id, as_row(child, child_id))
        except BaseException:
            self._back_to(before)
            raise
        if len(self._out) == before[0]:
            self._filtered += 1

    def _mark(self) -> _Mark:
        marks = None if self._numbers is None else dict(self._numbers.marks)
        return len(self._out), self._filtered, self._first, self._last, marks

    def _back_to(self, mark: _Mark) -> None:
        """Forget what was put since `mark`: rows of a call that failed half-way."""
        length, self._filtered, self._first, self._last, marks = mark
        del self._out[length:]
        if self._numbers is not None and marks is not None:
            self._numbers.marks = marks

    def _settle_flat(self, ids: Sequence[Id], results: Sequence[Any]) -> None:
        """Take a flat list: rows that carry their item's id are attributed to it, others to the whole batch."""
        known = set(ids)
        owners = [_owner(row, known) for row in results]
        count: dict[Id, int] = {}
        for owner in owners:
            if owner is not None:
                count[owner] = count.get(owner, 0) + 1
        next_child: dict[Id | None, int] = {}
        is_shared = False
        for row, owner in zip(results, owners, strict=True):
            if row is None:
                continue
            k = next_child.get(owner, 0)
            next_child[owner] = k + 1
            if owner is None:
                is_shared = True
                row_id = span_id(ids[0], ids[-1], k, self._kernel.id_scheme)
            elif count[owner] == 1:
                row_id = owner
            else:
                row_id = self._child(owner, k)
            if self._numbers is not None:
                (self._numbers.kept if row_id == owner else self._numbers.made)(row_id)
            self._put(row_id, as_row(row, row_id))
        if not is_shared:
            self._filtered += len(ids) - len(count)

    def _put(self, row_id: Id, row: dict[str, Any]) -> None:
        self._out.append(self._encode(row))
        if self._first is None:
            self._first = row_id
        self._last = row_id

    def fail(self, error: BaseException) -> float | None:
        """Take note that the call that was being made failed. What was settled before it stays settled.

        Returns:
            Seconds to wait before going on: the same call again, or, when it was a batch, with half of it. None when
            there is nothing more to try: then `failure` says why.
        """
        ids, items = self._given
        rows = len(ids)
        may_repeat = bool(items) and isinstance(error, Exception)  # no items: the row could not be parsed
        if may_repeat and (not self._parts or rows == 1):  # halves are tried once: they only look for the row at fault
            self._attempts += 1
            pause = self._kernel.retries.pause_after(self._attempts)
            if pause is not None:
                return pause
        if may_repeat and rows > 1 and self._kernel.call.bisect:
            self._take_off(rows)
            self._parts += [rows - rows // 2, rows // 2]
            self._attempts = 0
            return 0.0
        from llm_datagen.messages import OperatorFailure  # worker processes start without

        record = FailureRecord.of(error)
        attempts = max(self._attempts, 1) if items else 0
        letters = [self._letter(number, record, attempts) for number in range(self._settled, self._settled + rows)]
        self._failure = OperatorFailure(record, error, items, tuple(ids), rows, b"".join(letters))
        return None

    def _letter(self, number: int, error: FailureRecord, attempts: int) -> bytes:
        """Return the dead letter of a record: what it was, and why it failed."""
        block = self._block
        ordinal = block.start + number
        row_id: Id = ordinal
        item: Any = UNPARSED
        with contextlib.suppress(ValueError):
            row_id, item = named(block.decode(block.records[number]), ordinal, is_root=self._kernel.is_root)
        return letter(
            row_id,
            item,
            record=block.records[number],
            node_id=self._kernel.ctx.node_id,
            error=error,
            attempts=attempts,
            source=Span(ordinal, ordinal + 1, block.offset_after(number), block.offset_after(number + 1)),
        )

    def done(self) -> Done:
        """Return what became of the block."""
        block = self._block
        count = self._settled
        rest: Block | None = None
        if count < len(block.records):
            block, rest = block.split_at(count)
        return Done(
            span=Span(block.start, block.end, block.offset, block.offset_end),
            rows=len(self._out),
            data=b"".join(self._out),
            filtered=self._filtered,
            ids=(self._first, self._last),
            marks=self._numbers.as_marks() if self._numbers is not None else None,
            rest=rest,
            failure=self._failure,
            calls=self._calls,
            seconds=time.perf_counter() - self._started,
        )


def _close(coroutine: Any) -> None:
    """Spare a coroutine that will not be awaited its warning."""
    close = getattr(coroutine, "close", None)
    if close is not None:
        close()


_Mark = tuple[int, int, Id | None, Id | None, dict[str, Any] | None]


def _owner(row: Any, known: set[Id]) -> Id | None:
    owner = row.get(ID_FIELD) if isinstance(row, dict) else None
    return owner if isinstance(owner, int | str) and owner in known else None


def _is_reordered(ids: Sequence[Id], results: Sequence[Any]) -> bool:
    """Return whether every result carries an id of the batch, but not each its own place's."""
    if all(isinstance(row, dict) and row.get(ID_FIELD) == row_id for row, row_id in zip(results, ids, strict=True)):
        return False
    known = set(ids)
    return all(_owner(row, known) is not None for row in results)


class _Numbers:
    """Which ids a pass kept and which it made: under the scheme "numeric" the two must not meet."""

    def __init__(self) -> None:
        self.marks: dict[str, Any] = {}

    def kept(self, row_id: Id) -> None:
        if not isinstance(row_id, int):
            raise IdError(f'row {row_id!r} has no numeric id; use id_scheme="path"')
        self._widen("kept", row_id)

    def made(self, row_id: Id) -> None:
        self._widen("made", row_id)

    def _widen(self, kind: str, row_id: Id) -> None:
        low, high = self.marks.get(kind, (row_id, row_id))
        self.marks[kind] = [min(low, row_id), max(high, row_id)]

    def as_marks(self) -> dict[str, Any]:
        return self.marks


def merged_marks(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the ranges of kept and made ids of a node after another block.

    Raises:
        IdError: when they overlap: a kept id could be the same as a child's.
    """
    merged: dict[str, Any] = {}
    for kind in ("kept", "made"):
        ranges = [marks[kind] for marks in (old, new) if kind in marks]
        if ranges:
            merged[kind] = [min(low for low, _ in ranges), max(high for _, high in ranges)]
    if len(merged) == 2:
        (low, high), (made_low, made_high) = merged["kept"], merged["made"]
        if low <= made_high and made_low <= high:
            raise IdError(
                f"a node keeps ids from {low} to {high} and makes children from {made_low} to {made_high}: under "
                'id_scheme="numeric" they could be the same; use id_scheme="path"'
            )
    return merged
