"""The failures of one block run: rows that a worker goes on without, and the one that it does not survive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import FailureRecord, FatalError, StopRun
from llm_datagen.executors.processing import Processing
from llm_datagen.executors.row_input import RowInput
from llm_datagen.messages.block_result import OperatorFailure
from llm_datagen.streams.ids import Id
from llm_datagen.streams.spill import SpillError

FAILED_BYTES = 4 * 1024 * 1024
"""When the failures of a block run take so much memory, it ends, and delivers them."""


def is_final(error: BaseException) -> bool:
    """Return whether an exception ends the node whatever its policy, so that its call is not made again."""
    return isinstance(error, StopRun | SpillError | FatalError)


class Failures:
    """What failed in one block run. Used by one worker.

    Args:
        processing: how the rows are processed.
        rows: the rows.
        start: the ordinal of the first of them.

    Attributes:
        last: the failure that ends the block run, if one does.
        survived: failures that it went on after.
        dead_letters: of these, encoded, when the node keeps dead letters.
    """

    def __init__(self, processing: Processing, rows: RowInput, start: int) -> None:
        self._processing = processing
        self._rows = rows
        self._start = start
        self.last: OperatorFailure | None = None
        self.survived: list[OperatorFailure] = []
        self.dead_letters: list[bytes] = []
        self._bytes = 0  # what these hold in memory, about

    @property
    def are_too_large(self) -> bool:
        """Whether they hold so much memory that they are to be delivered."""
        return self._bytes > FAILED_BYTES

    def add(self, error: BaseException, begin: int, ids: Sequence[Id], items: list[Any], *, attempts: int) -> bool:
        """Add the failure of a call that is not made again; return whether the worker goes on without its rows.

        Args:
            error: what the operator raised.
            begin: the number of the first row in the block.
            ids: the ids of the rows.
            items: what the operator was given; nothing when the row could not be parsed.
            attempts: how often the call was made.
        """
        processing, rows = self._processing, len(ids)
        if is_final(error) or processing.policy.on_error == "fail":
            processing.gate.is_halted = True
        is_common = isinstance(error, Exception)  # not a call that is cancelled, or an exit
        may_survive = is_common and not processing.gate.is_halted and not processing.ctx.is_cancelled()
        survives = may_survive and processing.survives(rows, begin)
        record, dead_letters = FailureRecord.of(error), b""
        if processing.policy.on_error == "dead_letter" and not is_final(error):
            numbers = range(begin, begin + rows)
            node_id = processing.ctx.node_id
            dead_letters = self._rows.dead_letters(numbers, node_id=node_id, error=record, attempts=attempts)
        failure = OperatorFailure(
            record,
            error,
            items,
            tuple(ids),
            rows,
            b"" if survives else dead_letters,
            is_fatal=isinstance(error, SpillError | FatalError),
            is_stop=isinstance(error, StopRun),
            row=self._start + begin,
            offset=self._rows.offset(begin),
            excerpt="" if survives else self._rows.excerpt(begin),
        )
        if survives:
            self.survived.append(failure)
            self.dead_letters.append(dead_letters)
            # An exception whose text was cut holds more than that.
            size = len(dead_letters) + len(record.text) + len(record.trace)
            self._bytes += size + FAILED_BYTES if record.is_cut else size
        else:
            self.last = failure  # the node decides, or has decided
        return survives
