"""The result of a block: what a worker gives back. Outcomes are data, failures too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import FailureRecord

if TYPE_CHECKING:
    from llm_datagen.streams import Block, Span
    from llm_datagen.streams.ids import Id
    from llm_datagen.streams.spill import Spill
    from llm_datagen.streams.state.changes import StateChanges


@dataclass(frozen=True, slots=True)
class OperatorFailure:
    """An operator let an exception out."""

    record: FailureRecord
    error: BaseException = field(repr=False)
    """The original, for `run()` to raise from."""
    items: list[Any] = field(repr=False)
    """What the operator had been given."""
    ids: tuple[Id, ...] = ()
    """The ids of these items."""
    rows: int = 1
    """How many source rows failed: the first ones of what was not processed."""
    dead_letters: bytes = field(default=b"", repr=False)
    """Their dead letters, encoded; none when the policy of the node keeps none."""
    is_fatal: bool = False
    """Whether it is no row's fault, or no call can be made any more: the node fails, whatever its policy."""
    is_unknown: bool = False
    """Whether nobody knows if the operator has seen them, and so they may not be called again (at_most_once)."""
    is_stop: bool = False
    """Whether the operator asks for the end of the run: nothing has failed, and the text of `record` is the reason."""
    row: int = 0
    """The ordinal of the first of these rows in the source."""
    offset: int = 0
    """Where it begins in the source, in bytes."""
    excerpt: str = field(default="", repr=False)
    """The beginning of its record, for people."""


@dataclass(slots=True)
class BlockResult:
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
        survived: failures that the worker went on after; it has counted their rows in the next three.
        skipped: source rows that failed and are left out.
        dead: source rows that failed and are dead-lettered.
        dead_letters: the dead letters, encoded.
        calls: calls of the operator that were made.
        seconds: seconds that they took, with decoding and encoding.
        cpu_seconds: seconds of these in which the worker's thread computed.
        state: what the rows have changed of the state of the node.
        is_end: whether it is what the operator gave at the end of its source: it stands for no source rows.
        rejected: for how many of the filtered rows the operator gave a reason.
        rejections: these rows, encoded, if they are kept.
    """

    span: Span
    rows: int = 0
    data: bytes | Spill = field(default=b"", repr=False)
    filtered: int = 0
    ids: tuple[Id | None, Id | None] = (None, None)
    marks: dict[str, Any] | None = None
    rest: Block | None = field(default=None, repr=False)
    failure: OperatorFailure | None = None
    calls: int = 0
    seconds: float = 0.0
    skipped: int = 0
    dead: int = 0
    dead_letters: bytes = field(default=b"", repr=False)
    survived: tuple[OperatorFailure, ...] = ()
    cpu_seconds: float = 0.0
    state: StateChanges | None = None
    is_end: bool = False
    rejected: int = 0
    rejections: bytes = field(default=b"", repr=False)

    @property
    def source_rows(self) -> int:
        """Source rows that are done, with those that failed and are done all the same."""
        return self.span.end - self.span.start

    @property
    def has_outcome(self) -> bool:
        """Whether there is anything for the writer."""
        return bool(self.source_rows) or (self.is_end and self.failure is None)

    @property
    def size(self) -> int:
        """The bytes in memory of what goes to the writer."""
        data = len(self.data) if isinstance(self.data, bytes) else self.data.held
        return data + len(self.dead_letters) + len(self.rejections)

    def close(self) -> None:
        """Close the spill file of the output rows, if there is one."""
        if not isinstance(self.data, bytes):
            self.data.close()
