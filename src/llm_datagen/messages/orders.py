"""Orders to a pipeline, for everybody (public)."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Run:
    """To a pipeline: begin. Ignored when it has begun.

    To a pipeline's host: run what was created. Asked, the reply is a `report.PipelineStatus` when it has begun. It
    raises `PipelineBusyError` while a run is under way, and what `run()` raises before it begins.
    """


@dataclass(frozen=True, slots=True)
class Resume:
    """To a pipeline's host: go on with a run that has stopped, here or in another process.

    Asked, the reply is a `report.PipelineStatus` when it has begun. It raises `PipelineBusyError` while a run is under
    way, and what `resume()` raises, such as `PipelineNotFoundError` and `StreamChangedError`.
    """

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
