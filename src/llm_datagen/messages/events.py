"""Events of a pipeline, for subscribers (public)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import FailureRecord

if TYPE_CHECKING:
    from llm_datagen.streams.ids import Id


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
    """Rows were committed, or more is known of the total. At most ten of these per second and node."""

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
    own_state: tuple[str, ...] = ()
    """The data of its own that the operator changed between calls, if that is what the message is of."""


@dataclass(frozen=True, slots=True)
class PipelineFinished:
    """The pipeline has ended."""

    pipeline_id: str
    status: str
    failure: FailureRecord | None = None
    error: BaseException | None = field(default=None, repr=False)
    reason: str = ""
    """Why it was cancelled, if somebody said so."""


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
class UsageReported:
    """An operator reported usage. To the supervisor, and on to subscribers."""

    pipeline_id: str
    node_id: str
    provider: str
    model: str
    metrics: Mapping[str, float]

    def plus(self, other: UsageReported) -> UsageReported:
        """Return this and another one of the same node and model as one."""
        names = {**self.metrics, **other.metrics}
        sums = {name: self.metrics.get(name, 0) + other.metrics.get(name, 0) for name in names}
        return replace(self, metrics=sums)
