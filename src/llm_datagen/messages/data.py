"""Messages that rows travel in: between reader, node, worker and writer."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_datagen.errors import FailureRecord

if TYPE_CHECKING:
    from llm_datagen.streams import Block, Span
    from llm_datagen.streams.ids import Id
    from llm_datagen.streams.spill import Spill


class StageOutcome(StrEnum):
    """How a stage ended."""

    FINISHED = "finished"
    """Its work is complete."""
    STOPPED = "stopped"
    """It was cancelled, or had to stop because another one did."""
    FAILED = "failed"
    """It is itself the place of a failure."""


class Load(NamedTuple):
    """What a message holds in memory."""

    rows: int
    bytes: int


class Bulk:
    """A message of the data lane. `load` is what it counts for in a bounded mailbox; with no rows it never blocks."""

    __slots__ = ()

    rows: int

    @property
    def load(self) -> Load:
        """Rows and bytes that it holds in memory."""
        return Load(self.rows, 0)


# --- joining -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Feed:
    """To a node: this is your reader; begin."""

    reader: Any
    """The reader's ref."""


@dataclass(frozen=True, slots=True)
class Attach:
    """To a writer: this reader reads what you write; tell it what is committed."""

    reader: Any
    """The reader's ref."""


@dataclass(frozen=True, slots=True)
class PauseCalls:
    """Supervisor to node: no call of the operator begins from now on. To a reader: a source that rests is not idle."""

    paused: Future[None] = field(default_factory=Future, repr=False)
    """Resolved by the node when that is so."""


@dataclass(frozen=True, slots=True)
class UnpauseCalls:
    """Supervisor to node and reader: go on."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Supervisor to node: the node's concurrency or rate has changed."""


# --- between reader and node -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Demand:
    """Node to reader: send me the next rows."""

    rows: int
    """How many, at most."""


@dataclass(frozen=True, slots=True)
class Batch(Bulk):
    """Reader to node: consecutive rows of the source."""

    rows: int
    block: Block = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndOfSource(Bulk):
    """Reader to node: there will be no more rows."""

    total: int
    """Rows in the source, over all runs."""
    size: int
    """Bytes in the source."""
    rows: int = 0


# --- between worker, node and writer ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write(Bulk):
    """Worker to writer: what became of some source rows."""

    rows: int
    """Output rows."""
    data: bytes | Spill = field(repr=False)
    """The output rows, encoded."""
    span: Span = field(repr=False)
    """The source rows that are done with this."""
    filtered: int = 0
    """How many of the source rows gave no row."""
    skipped: int = 0
    """How many of them failed and are left out."""
    dead: int = 0
    """How many of them failed and are dead-lettered."""
    dead_letters: bytes = field(default=b"", repr=False)
    """Their dead letters, encoded."""
    ids: tuple[Id | None, Id | None] = (None, None)
    """Ids of the first and the last output row."""
    marks: Mapping[str, Any] | None = None
    """What the id scheme must remember."""
    ack: Future[None] | None = field(default=None, repr=False)
    """Resolved when the rows are committed; a worker in sync mode waits for it."""

    @property
    def load(self) -> Load:
        """Rows that went in or came out, whichever are more: a disk that is slow also holds up a node that filters."""
        size = len(self.data) if isinstance(self.data, bytes) else self.data.held
        return Load(max(self.rows, self.span.end - self.span.start), size + len(self.dead_letters))


@dataclass(frozen=True, slots=True)
class TaskDone:
    """Worker to node: a task has ended, and all of its results that there are were delivered."""

    task: int
    """The task's number."""
    rows: int
    """Source rows that are done with it, with those that failed and are done all the same."""
    calls: int
    """Calls of the operator that were made."""
    seconds: float
    """Seconds that they took."""
    cpu_seconds: float
    """Seconds of these in which the worker's thread computed."""
    rest: Block | None = field(default=None, repr=False)
    """Rows of the task that were not processed, for whatever reason."""
    failure: OperatorFailure | None = None
    """Why the operator stopped, if it failed."""
    survived: tuple[OperatorFailure, ...] = ()
    """Failures that the worker went on after: their rows are skipped, or dead-lettered."""
    lost: bool = False
    """Whether the writer was dead when the results were to be delivered."""
    held_back: float = field(default=0.0, compare=False)
    """Seconds that the worker waited for the writer (in sync mode, for the commit) to deliver them."""


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


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Node to supervisor: its operator asks that the run end in good order."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish(Bulk):
    """Node to writer: every row of the source was delivered; seal."""

    total: int
    """Rows in the source."""
    size: int
    """Bytes in the source."""
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Drain(Bulk):
    """Supervisor to writer: nothing more will come; commit what you have and end, without a seal."""

    rows: int = 0


# --- between writer and the readers behind it ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    """Writer to the readers of its stream: it may be read up to here."""

    limit: int
    """Bytes."""
    place: tuple[str, str] | None = None
    """What stream it is (`Stream.place`), for a reader of several."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """Writer to the readers of its stream: it has ended."""
