"""Messages that rows travel in: between reader, node, worker and writer."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_datagen.messages.block_result import BlockResult

if TYPE_CHECKING:
    from llm_datagen.streams import Block


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

    @property
    def load(self) -> Load:
        """Rows and bytes that it holds in memory."""
        return Load(0, 0)


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


@dataclass(frozen=True, slots=True)
class EndSooner:
    """Supervisor to reader: end before this row, unless rows from it on were read. The reply is `EndsSooner`."""

    row: int
    at: int
    """Its address."""
    answer: Future[Any] = field(repr=False)
    """Resolved with False by the reader when it is too late for that."""


@dataclass(frozen=True, slots=True)
class EndNoted:
    """Supervisor to reader: your new end is in the run state; you may tell that the source has ended."""


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

    @property
    def load(self) -> Load:
        """Its rows."""
        return Load(self.rows, 0)


@dataclass(frozen=True, slots=True)
class EndOfSource(Bulk):
    """Reader to node: there will be no more rows."""

    total: int
    """Rows in the source, over all runs."""
    size: int
    """Bytes in the source."""


# --- between worker, node and writer ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write(Bulk):
    """Worker to writer: what became of some source rows."""

    result: BlockResult
    ack: Future[None] | None = field(default=None, repr=False)
    """Resolved when the rows are committed; a worker in sync mode waits for it."""

    @property
    def load(self) -> Load:
        """Rows that went in or came out, whichever are more: a disk that is slow also holds up a node that filters."""
        result = self.result
        return Load(max(result.rows, result.source_rows), result.size)


@dataclass(frozen=True, slots=True)
class Writes(Bulk):
    """Worker to writer: what became of the rows of several tasks, which have ended at about the same time."""

    writes: tuple[Write, ...]

    @property
    def load(self) -> Load:
        """That of all of them."""
        loads = [write.load for write in self.writes]
        return Load(sum(load.rows for load in loads), sum(load.bytes for load in loads))


@dataclass(frozen=True, slots=True)
class TaskDone:
    """Worker to node: a task has ended, and all of its results that there are were delivered."""

    task: int
    """The task's number."""
    result: BlockResult
    lost: bool = False
    """Whether the writer was dead when the results were to be delivered."""
    held_back: float = field(default=0.0, compare=False)
    """Seconds that the worker waited for the writer (in sync mode, for the commit) to deliver them."""


@dataclass(frozen=True, slots=True)
class TasksDone:
    """Worker to node: several tasks have ended at about the same time."""

    tasks: tuple[TaskDone, ...]


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Node to supervisor: its operator asks that the run end in good order."""

    node_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish(Bulk):
    """Node to writer: every row of the source was delivered; seal."""

    total: int
    """Rows in the source."""
    size: int
    """Bytes in the source."""


@dataclass(frozen=True, slots=True)
class Drain(Bulk):
    """Supervisor to writer: nothing more will come; commit what you have and end; seal only if the target is met."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Node to writer: so many source rows are processed, and their results will not come."""

    rows: int


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
