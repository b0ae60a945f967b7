"""The result of a block: what a worker gives back. Outcomes are data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_datagen.streams import Block, Span
from llm_datagen.streams.ids import Id
from llm_datagen.streams.spill import Spill

if TYPE_CHECKING:
    from llm_datagen.messages import OperatorFailure


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
    """

    span: Span
    rows: int = 0
    data: bytes | Spill = field(default=b"", repr=False)
    filtered: int = 0
    ids: tuple[Id | None, Id | None] = (None, None)
    marks: dict[str, Any] | None = None
    rest: Block | None = None
    failure: OperatorFailure | None = None
    calls: int = 0
    seconds: float = 0.0
    skipped: int = 0
    dead: int = 0
    dead_letters: bytes = field(default=b"", repr=False)
    survived: tuple[OperatorFailure, ...] = ()
    cpu_seconds: float = 0.0
