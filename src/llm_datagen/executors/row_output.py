"""The output of a block run: what an operator returned, as rows with ids, encoded (M12, M14, M15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import isawaitable
from types import GeneratorType
from typing import Any, NamedTuple

from llm_datagen.config import IdScheme
from llm_datagen.errors.advice import a_kind
from llm_datagen.executors.id_ranges import IdRanges
from llm_datagen.streams.formats.base import Encoder, lines_of
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, Id, child_maker, span_id
from llm_datagen.streams.rejected import rejected_row
from llm_datagen.streams.rows import Rejected, as_row
from llm_datagen.streams.spill import Spill

STOW_ROWS = 256
"""Records are joined when they are so many: each one is a piece of memory far larger than itself (orjson's buffer)."""


class Savepoint(NamedTuple):
    """A state that an output can go back to."""

    rows: int
    filtered: int
    rejected: int
    ids: tuple[Id | None, Id | None]
    ranges: dict[str, Any] | None


class RowOutput:
    """Takes what an operator returned. Used by one worker.

    Args:
        encoder: how a row becomes a record.
        id_scheme: how children are named.
        spill_folder: where children go that are too many for memory; None keeps them in memory all the same.
        keeps_rejected: whether rejected rows are kept.

    Attributes:
        records: the last records, without their newlines, which are not yet in the spill file.
        filtered: source rows that gave no row.
        rejected: for how many of these the operator gave a reason.
        rejections: these rows, encoded, if they are kept.
        first, last: ids of the first and the last row.
        marks: what the scheme "numeric" must remember; None for "path".
    """

    def __init__(
        self, encoder: Encoder, id_scheme: IdScheme, spill_folder: str | None, *, keeps_rejected: bool = False
    ) -> None:
        self._encoder = encoder
        self.records: list[bytes] = []
        self.filtered = self.rejected = 0
        self.rejections: list[bytes] = []
        self._keeps_rejected = keeps_rejected
        self.first: Id | None = None
        self.last: Id | None = None
        self.marks = IdRanges() if id_scheme == "numeric" else None
        self._id_scheme = id_scheme
        self._child = child_maker(id_scheme)
        self._spill_folder = spill_folder
        self._spill: Spill | None = None

    def encode(self, row: dict[str, Any]) -> bytes:
        """Return the record of a row."""
        try:
            return self._encoder.encode(row)
        except TypeError:
            return self._encoder.encode_other(row)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._stowed + len(self.records)

    @property
    def _stowed(self) -> int:
        return 0 if self._spill is None else self._spill.rows

    def stow(self, *, may_file: bool = False) -> None:
        """Join the last records, so that they take less memory.

        Raises:
            SpillError: when they, and those before, were to be put into a file, and it cannot be written.
        """
        records = self.records.copy()
        self.records.clear()
        if self._spill is None:
            self._spill = Spill(self._spill_folder)
        self._spill.append(records, may_file=may_file)

    def data(self) -> bytes | Spill:
        """Return all records, in order."""
        if self._spill is None:
            return lines_of(self.records) if self.records else b""
        if self.records:
            self.stow()
        return self._spill if self._spill.is_filed else self._spill.read_all()

    def savepoint(self) -> Savepoint:
        """Return the present state."""
        ranges = None if self.marks is None else dict(self.marks.ranges)
        return Savepoint(self.rows, self.filtered, self.rejected, (self.first, self.last), ranges)

    def roll_back(self, savepoint: Savepoint) -> None:
        """Forget what came after `savepoint`: rows of a call that failed half-way."""
        if self._spill is not None:
            self._spill.truncate(savepoint.rows)
        del self.records[savepoint.rows - self._stowed :]
        self.filtered, self.rejected = savepoint.filtered, savepoint.rejected
        del self.rejections[self.rejected :]
        self.first, self.last = savepoint.ids
        if self.marks is not None and savepoint.ranges is not None:
            self.marks.ranges = savepoint.ranges

    def settle(self, row_id: Id, item: Any, result: Any) -> None:
        """Take what the operator returned for one item."""
        if result is None:
            self.filtered += 1
        elif isinstance(result, list | GeneratorType):
            self._settle_children(row_id, result)
        else:
            if result.__class__ is not dict:
                if isinstance(result, Rejected):
                    self._reject(row_id, item, result.reason)
                    return
                if isawaitable(result):
                    _close(result)
                    raise TypeError("the operator returned a coroutine; make it `async def`, so that it is awaited")
            if result is item and result.__class__ is dict and not (len(result) <= 2 and DATA_FIELD in result):
                result[ID_FIELD] = row_id  # the worker's own copy, decoded for this call
            else:
                result = as_row(result, row_id)
            if self.marks is None:
                self._put(row_id, result)
            else:
                self._put_numbered(row_id, result, self.marks)

    def _reject(self, row_id: Id, item: Any, reason: str) -> None:
        if self._keeps_rejected:
            self.rejections.append(rejected_row(row_id, item, reason))
        self.filtered += 1
        self.rejected += 1

    def settle_all(self, ids: Sequence[Id], items: Sequence[Any], results: Any) -> None:
        """Take what the operator returned for a batch: one result per item, or a flat list.

        Raises:
            TypeError: when it is neither.
        """
        if results is None:
            raise TypeError("process_batch returned None; to filter the whole batch, return an empty list")
        if isinstance(results, GeneratorType):
            results = list(results)
        elif not isinstance(results, list | tuple):
            raise TypeError(f"process_batch must return a list, not {a_kind(type(results))}")
        if len(self.records) >= STOW_ROWS:
            self.stow()
        before = self.savepoint()
        try:
            if len(results) != len(ids):
                self._settle_flat(ids, results)
            elif not self._settle_rows(ids, results):
                if _is_out_of_place(ids, results):
                    self._settle_flat(ids, results)
                else:
                    for row_id, item, result in zip(ids, items, results, strict=True):
                        self.settle(row_id, item, result)
        except BaseException:
            self.roll_back(before)
            raise

    def _settle_rows(self, ids: Sequence[Id], results: Sequence[Any]) -> bool:
        """Take the common case, an object with the right id for each item; return False when it is not that."""
        if self.marks is not None:
            return False
        for row_id, row in zip(ids, results, strict=True):
            if row.__class__ is not dict or row.get(ID_FIELD) is not row_id or len(row) < 3:
                return False
        rows = len(self.records)
        try:
            self.records += map(self._encoder.encode, results)
        except TypeError:
            del self.records[rows:]
            self.records += map(self.encode, results)
        if self.first is None:
            self.first = ids[0]
        self.last = ids[-1]
        return True

    def _put(self, row_id: Id, row: dict[str, Any]) -> None:
        self.records.append(self.encode(row))
        if self.first is None:
            self.first = row_id
        self.last = row_id

    def _put_numbered(self, row_id: Id, row: dict[str, Any], marks: IdRanges) -> None:
        before = self.savepoint()
        try:
            marks.kept(row_id)
            self._put(row_id, row)
        except BaseException:
            self.roll_back(before)
            raise

    def _settle_children(self, row_id: Id, children: Iterable[Any]) -> None:
        before = self.savepoint()
        kept = 0
        try:
            for k, child in enumerate(children):
                if child is not None:
                    child_id = self._child(row_id, k)
                    if self.marks is not None:
                        self.marks.made(child_id)
                    self._put(child_id, as_row(child, child_id))
                    kept += 1
                    if len(self.records) >= STOW_ROWS:
                        self.stow(may_file=True)
        except BaseException:
            self.roll_back(before)
            raise
        if not kept:
            self.filtered += 1

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
                row_id = span_id(ids[0], ids[-1], k, self._id_scheme)
            elif count[owner] == 1:
                row_id = owner
            else:
                row_id = self._child(owner, k)
            if self.marks is not None:
                (self.marks.kept if row_id == owner else self.marks.made)(row_id)
            self._put(row_id, as_row(row, row_id))
        if not is_shared:
            self.filtered += len(ids) - len(count)


def _close(coroutine: Any) -> None:
    """Spare a coroutine that will not be awaited its warning."""
    close = getattr(coroutine, "close", None)
    if close is not None:
        close()


def _owner(row: Any, known: set[Id]) -> Id | None:
    owner = row.get(ID_FIELD) if isinstance(row, dict) else None
    return owner if isinstance(owner, int | str) and owner in known else None


def _is_out_of_place(ids: Sequence[Id], results: Sequence[Any]) -> bool:
    """Return whether a result carries the id of another item of the batch than the one whose place it has.

    Not when there are lists among them: these are results of an item each, so the others are, too.
    """
    if all(isinstance(row, dict) and row.get(ID_FIELD) == row_id for row, row_id in zip(results, ids, strict=True)):
        return False
    if any(isinstance(row, list | GeneratorType) for row in results):
        return False
    known = set(ids)
    return any(_owner(row, known) not in (None, row_id) for row, row_id in zip(results, ids, strict=True))
