"""The protocol: every message that actors send one another. Plain, frozen data; orders are imperative, facts past.

A message that carries rows is `Bulk`: it travels in the data lane, in order, within bounds. All others are control:
they never wait behind rows. Representations hide rows, so that no log can show them.

Who MUST do what:

* A **reader** MUST NOT send more rows than were demanded; it sends at most one `Batch` for a `Demand`, as soon as it
  has a row. When its source has ended and every row was sent, it MUST send `EndOfSource`, once, behind the rows.
* A **node** MUST have at most one `Demand` open. It MAY demand whenever it likes; it stops to pause the flow.
  It MUST send `Finish` to its writer when, and only when, its source has ended and each of its rows was delivered.
* A **worker** MUST send the `Write` of a task before the node hears of the task's end, and MAY be blocked by that.
* A **writer** MUST write data before the commit, commit before it sends `Committed`, and seal only after `Finish`.
  It MUST resolve a write's `ack` when it is committed, or fail it when it never will be.
* Every **stage** MUST send its boss exactly one `StageEnded`, after it has let go of its files.
* `Cancel` MAY reach anyone at any time, more than once. What is already dispatched ends; nothing new begins.
* A **node** that is told `HoldCalls` MUST resolve `held` when no further call of the operator begins, within a second,
  without waiting for calls that run; and begins none until `AllowCalls`.
* A **pipeline** MUST answer every order that is asked, within a second, whatever the operators do.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from llm_datagen.errors import FailureRecord

if TYPE_CHECKING:
    from llm_datagen.ids import Id
    from llm_datagen.report import PipelineStatus
    from llm_datagen.streams import Block, Span
    from llm_datagen.streams.spool import Spool


class Outcome(StrEnum):
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


# --- wiring ------------------------------------------------------------------------------------------------------


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
class HoldCalls:
    """Supervisor to node: no call of the operator begins from now on. To a reader: a source that rests is not idle."""

    held: Future[None] = field(default_factory=Future, repr=False)
    """Resolved by the node when that is so."""


@dataclass(frozen=True, slots=True)
class AllowCalls:
    """Supervisor to node and reader: go on."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Supervisor to node: the plan's concurrency has changed."""


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
    data: bytes | Spool = field(repr=False)
    """The output rows, encoded."""
    span: Span = field(repr=False)
    """The source rows that are done with this."""
    filtered: int = 0
    """How many of the source rows gave no row."""
    skipped: int = 0
    """How many of them failed and are left out."""
    dead: int = 0
    """How many of them failed and are dead-lettered."""
    letters: bytes = field(default=b"", repr=False)
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
        return Load(max(self.rows, self.span.end - self.span.start), size + len(self.letters))


@dataclass(frozen=True, slots=True)
class TaskDone:
    """Worker to node: a task has ended, and all of its results that there are were delivered."""

    task: int
    """The task's number."""
    rows: int
    """Source rows that are done with it."""
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
    lost: bool = False
    """Whether the writer was dead when the results were to be delivered."""
    held_back: float = field(default=0.0, compare=False)
    """Seconds that the worker waited for the writer (in sync mode, for the commit) to deliver them."""


@dataclass(frozen=True, slots=True)
class OperatorFailure:
    """An operator let an exception out."""

    record: FailureRecord
    error: BaseException = field(repr=False)
    """The original, kept once, for `run()` to raise from."""
    items: list[Any] = field(repr=False)
    """What the operator had been given."""
    ids: tuple[Id, ...] = ()
    """The ids of these items."""
    rows: int = 1
    """How many source rows failed: the first ones of what was not processed."""
    letters: bytes = field(default=b"", repr=False)
    """Their dead letters, encoded, for a node that wants them."""
    is_fatal: bool = False
    """Whether it is no row's fault, or no call can be made any more: the node fails, whatever its policy."""
    is_unknown: bool = False
    """Whether nobody knows if the operator has seen them, and so they may not be called again (at_most_once)."""
    is_stop: bool = False
    """Whether the operator asks for the end of the run: nothing has failed, and the text of `record` is the reason."""


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


# --- to the supervisor ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageEnded:
    """Stage to its boss: the one terminal report."""

    node_id: str
    role: str
    outcome: Outcome
    failure: FailureRecord | None = None
    error: BaseException | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SourceSized:
    """Reader to supervisor: what is known of the source's size."""

    node_id: str
    total: int
    """Rows; an estimate from bytes unless `is_exact`."""
    is_exact: bool


@dataclass(frozen=True, slots=True)
class RowsCommitted:
    """Writer to supervisor: how far the node has come, since its beginning, also over resumes."""

    node_id: str
    done: int
    """Source rows covered."""
    rows_out: int
    bytes_out: int
    filtered: int
    skipped: int
    dead: int
    resume_row: int
    """The first source row that is not covered."""
    resume_offset: int
    """The byte at which it begins."""
    holes: int
    """Source rows before the last covered one that are not covered: those in flight."""


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """Node or reader to supervisor: where its time went in this run, so far. Once a second at most, and at the end."""

    node_id: str
    figures: Mapping[str, float]
    """Fields of a `NodeReport`, such as `busy_s`."""


@dataclass(frozen=True, slots=True)
class OperatorFailed:
    """Node to supervisor: an operator failure that the node does not survive."""

    node_id: str
    failure: OperatorFailure


@dataclass(frozen=True, slots=True)
class RowsFailed:
    """Node to supervisor: rows failed, and the node goes on without them."""

    node_id: str
    failure: OperatorFailure
    is_dead_lettered: bool


@dataclass(frozen=True, slots=True)
class Stalled:
    """Nothing has moved in a node for a while, though there is work. To the supervisor, and on to subscribers."""

    pipeline_id: str
    node_id: str
    seconds: float
    """How long."""
    waits_on: str
    """ "operator", "writer" or "upstream"."""
    ids: tuple[Id, ...]
    """Ids of rows in flight, ten at most."""
    in_flight: int
    """How many rows are in flight."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Node to supervisor: something has moved again in a node that was stalled."""

    node_id: str


@dataclass(frozen=True, slots=True)
class UsageReported:
    """An operator reported usage. To the supervisor, and on to subscribers."""

    pipeline_id: str
    node_id: str
    provider: str
    model: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Supervisor to pipeline: how things are now. Sent on every change, and several times a second."""

    status: PipelineStatus


@dataclass(frozen=True, slots=True)
class Settled:
    """Supervisor to pipeline: all stages have ended, the image is saved."""

    status: PipelineStatus
    node_id: str = ""
    """The node that failed first, if any."""
    failure: FailureRecord | None = None
    error: BaseException | None = field(default=None, repr=False)


# --- steering a pipeline (public) -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """To a pipeline: begin. Ignored when it has begun."""


@dataclass(frozen=True, slots=True)
class Resume:
    """To a pipeline's host: go on with a run that has stopped, here or in another process."""

    pipeline_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a pipeline, or any stage: begin nothing new, end what was begun, commit it."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """To a pipeline: begin no call of an operator until `Unpause`.

    Asked, the reply is a `report.PipelineStatus`, and no call begins after it: calls that run are not waited for, they
    end and are saved. Pausing what is paused is no error.
    """


@dataclass(frozen=True, slots=True)
class Unpause:
    """To a pipeline: go on. The reply is a `report.PipelineStatus`. Ignored when it is not paused."""


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """To a pipeline: change a node while it runs, and in the image, so that a resume keeps it.

    Asked, the reply is `Reconfigured`, or a ConfigError is raised, with nothing changed; told, that is only logged.
    """

    node_id: str
    parallel_size: int | None = None
    """Batches in the operator at once, at most; None leaves it as it is. Calls that run are not broken off."""
    batch_size: int | None = None
    """Items a batch. Refused for operators that take batches: which rows share a call must not change in a run."""
    rate: float | None = None
    """Rows a second that are handed to the operator, at most; 0 takes the limit off."""


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The reply to `Reconfigure`: what holds from now on."""

    node_id: str
    parallel_size: int
    batch_size: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Steer:
    """Pipeline to supervisor: somebody's order, and where the answer goes."""

    order: Pause | Unpause | Reconfigure
    answer: Future[Any] = field(repr=False)
    """Resolved, or failed with what is raised to whoever asks."""


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask a pipeline (with a timeout): the reply is a `report.PipelineStatus`. Answered at once, whatever runs."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """To a pipeline: tell `ref` of every event from now on. Whoever has ended is forgotten."""

    ref: Any
    """An actor's ref, or anything with `tell(message)`; it MUST NOT block."""
    kinds: tuple[type, ...] = ()
    """The classes of events to be told of; none: all."""


# --- events, for subscribers (public) ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PipelineStarted:
    """The pipeline has begun to run."""

    pipeline_id: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node has begun to run."""

    pipeline_id: str
    node_id: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeProgressed:
    """Rows were committed, or more is known of the total. At most ten of these a second and node."""

    pipeline_id: str
    node_id: str
    done: int
    """Source rows covered."""
    total: int | None
    """Source rows in all; None while nothing is known."""
    meta: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NodeFailed:
    """An operator let an exception out, or a stage of the node failed."""

    pipeline_id: str
    node_id: str
    failure: FailureRecord
    error: BaseException = field(repr=False)
    items: list[Any] = field(repr=False, default_factory=list)


@dataclass(frozen=True, slots=True)
class RowDeadLettered:
    """Rows failed, and were skipped or dead-lettered (`on_error`); the node goes on."""

    pipeline_id: str
    node_id: str
    ids: tuple[Id, ...]
    failure: FailureRecord
    is_dead_lettered: bool
    """False: they were skipped."""
    error: BaseException = field(repr=False)
    items: list[Any] = field(repr=False, default_factory=list)


@dataclass(frozen=True, slots=True)
class NodeFinished:
    """A node has ended; `success` says whether its output is sealed."""

    pipeline_id: str
    node_id: str
    success: bool
    error: BaseException | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A node's position was written to checkpoint.json."""

    pipeline_id: str
    node_id: str
    checkpoint: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OperatorLogged:
    """An operator logged a message."""

    pipeline_id: str
    node_id: str
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class PipelineFinished:
    """The pipeline has ended."""

    pipeline_id: str
    status: str
    failure: FailureRecord | None = None
    error: BaseException | None = field(default=None, repr=False)


NodeMessage = Feed | Batch | EndOfSource | TaskDone | HoldCalls | AllowCalls | Resize | Cancel
ReaderMessage = Demand | Committed | Sealed | HoldCalls | AllowCalls | Cancel
WriterMessage = Attach | Write | Finish | Drain
SupervisorMessage = (
    StageEnded
    | SourceSized
    | RowsCommitted
    | TimeSpent
    | OperatorFailed
    | RowsFailed
    | Stalled
    | Moved
    | UsageReported
    | OperatorLogged
    | Steer
    | Cancel
)
Event = (
    PipelineStarted
    | NodeStarted
    | NodeProgressed
    | NodeFailed
    | RowDeadLettered
    | NodeFinished
    | UsageReported
    | Stalled
    | CheckpointSaved
    | OperatorLogged
    | PipelineFinished
)
HostMessage = Run | Resume | Cancel | Pause | Unpause | Reconfigure | GetStatus | Subscribe
PipelineMessage = (
    Run | Cancel | Pause | Unpause | Reconfigure | GetStatus | Subscribe | StatusChanged | Settled | StageEnded | Event
)
