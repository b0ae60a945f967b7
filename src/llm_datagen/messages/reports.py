"""Reports: from the stages to the supervisor, and from there to the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import FailureRecord
from llm_datagen.messages.block_result import OperatorFailure
from llm_datagen.messages.data import StageOutcome

if TYPE_CHECKING:
    from llm_datagen.runs.outage import OutageReport
    from llm_datagen.runs.status import PipelineStatus


@dataclass(frozen=True, slots=True)
class StageEnded:
    """Stage to its parent: the one terminal report."""

    node_id: str
    role: str
    outcome: StageOutcome
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
class EndsSooner:
    """Reader to supervisor: it ends before this row, as it was told, and waits for `EndNoted` before it does."""

    node_id: str
    row: int
    at: int
    answer: Future[Any] = field(repr=False)
    """To be resolved with True when that is in the run state."""


@dataclass(frozen=True, slots=True)
class SourceQuiet:
    """A reader has waited for rows of a source that is not sealed, and that no node of the run feeds. Once per run."""

    node_id: str
    text: str
    """What people are told: which file, and what to do."""


@dataclass(frozen=True, slots=True)
class RowsCommitted:
    """Writer to supervisor: how far the node has come, since its beginning, also over resumes."""

    node_id: str
    done: int
    """Source rows covered."""
    rows_out: int
    bytes_out: int
    filtered: int
    rejected: int
    skipped: int
    dead: int
    resume_row: int
    """The first source row that is not covered."""
    resume_offset: int
    """The byte at which it begins."""
    done_beyond: int
    """Source rows that are done, and lie behind `resume_row`."""
    holes: int
    """Source rows before the last covered one that are not covered: those in flight."""
    beyond: int = 0
    """Source rows that were in a call when a target was met, and are not done."""
    cut: int = 0
    """Output rows that were thrown away, as they were beyond a target."""


@dataclass(frozen=True, slots=True)
class TargetMet:
    """Writer to supervisor: the output has all the rows that it is to get, committed."""

    node_id: str


@dataclass(frozen=True, slots=True)
class TimeSpent:
    """Node or reader to supervisor: where its time went in this run. Once per second at most, and at the end."""

    node_id: str
    figures: Mapping[str, float]
    """Fields of a `NodeReport`, such as `busy_s`."""


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """Node to supervisor: what calls of a provider and a model have used in all, over all runs.

    Of it, what is new is told to subscribers, as `UsageReported`.
    """

    node_id: str
    provider: str
    model: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class OutageNoted:
    """Node to supervisor: for which endpoints calls wait, and why; again, whenever that has changed."""

    node_id: str
    pool: str
    """What stands for these endpoints."""
    outage: OutageReport | None
    """None: one of them answers again."""


@dataclass(frozen=True, slots=True)
class OperatorFailed:
    """Node to supervisor: an operator failure that the node does not survive."""

    node_id: str
    failure: OperatorFailure


@dataclass(frozen=True, slots=True)
class RowsFailed:
    """Node to supervisor, and on to the pipeline: rows failed, and the node goes on without them."""

    node_id: str
    failures: Sequence[OperatorFailure]
    is_dead_lettered: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """Node to supervisor: something has moved again in a node that was stalled."""

    node_id: str


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """Supervisor to pipeline: how things are now. Sent on every change, and several times a second."""

    status: PipelineStatus


@dataclass(frozen=True, slots=True)
class Settled:
    """Supervisor to pipeline: all stages have ended, the run state is saved."""

    status: PipelineStatus
    node_id: str = ""
    """The node that failed first, if any."""
    failure: FailureRecord | None = None
    error: BaseException | None = field(default=None, repr=False)
