"""Commands to a pipeline (public). What cannot be one is refused where it is made, with a ConfigError."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.config import OnChange, check_choice, check_flag
from llm_datagen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Run:
    """To a pipeline: begin. `start()` has sent it: a second one is refused by `PipelineBusyError`.

    To `pipeline.actor()`: run what was created. Asked, the reply is a `PipelineStatus` when it has begun. It
    raises `PipelineBusyError` while a run is under way, and what `run()` raises before it begins.
    """


@dataclass(frozen=True, slots=True)
class Resume:
    """To `pipeline.actor()`: go on with a run that has stopped, here or in another process.

    To a running pipeline: refused by `PipelineBusyError`.

    Asked, the reply is a `PipelineStatus` when it has begun. It raises `PipelineBusyError` while a run is under
    way, and what `resume()` raises, such as `PipelineNotFoundError` and `StreamChangedError`.
    """

    pipeline_id: str
    on_change: OnChange = "refuse"
    """What becomes of rows of operators that were edited since; see `resume()`."""

    def __post_init__(self) -> None:
        _check_text("pipeline_id", self.pipeline_id)
        check_choice("on_change", self.on_change, OnChange)


@dataclass(frozen=True, slots=True)
class Cancel:
    """To a pipeline, or any stage: begin nothing new, end what was begun, commit it."""

    reason: str = ""
    keep_jobs: bool = False
    """Whether jobs at a batch API of a provider go on, for a resume to collect. Else they are cancelled there, too."""

    def __post_init__(self) -> None:
        _check_text("reason", self.reason)
        check_flag("keep_jobs", self.keep_jobs)


@dataclass(frozen=True, slots=True)
class Pause:
    """To a pipeline: begin no call of an operator until `Unpause`.

    Asked, the reply is a `PipelineStatus`, and no call begins after it: calls that run are not waited for, they
    end and are saved. Pausing what is paused is no error.
    """


@dataclass(frozen=True, slots=True)
class Unpause:
    """To a pipeline: go on. The reply is a `PipelineStatus`. Ignored when it is not paused."""


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """To a pipeline: change a node while it runs, and in the run state, so that a resume keeps it.

    Asked, the reply is `Reconfigured`, or a ConfigError is raised, with nothing changed; told, that is only logged.
    """

    node_id: str
    parallel_size: int | None = None
    """Batches in the operator at once, at most; None leaves it as it is. Calls that run are not broken off."""
    batch_size: int | None = None
    """Items per batch. Refused for operators that take batches: which rows share a call must not change in a run."""
    rate: float | None = None
    """Rows per second that are handed to the operator, at most; 0 takes the limit off."""

    def __post_init__(self) -> None:
        _check_text("node_id", self.node_id)


@dataclass(frozen=True, slots=True)
class Reconfigured:
    """The reply to `Reconfigure`: what holds from now on."""

    node_id: str
    parallel_size: int
    batch_size: int
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class GiveAway:
    """To the run of a shard, by its driver: end earlier, as the rows from here on are for another shard.

    Asked, the reply is whether it does: True when that is in its run state, so that a resume keeps it; False, with
    nothing changed, when rows from there on were read, or several nodes read the input.
    """

    row: int
    """The number of the first row that is given away."""
    at: int
    """Its address."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """Pipeline to supervisor: a command, and where the answer goes."""

    command: Pause | Unpause | Reconfigure | GiveAway
    answer: Future[Any] = field(repr=False)
    """Resolved, or failed with what is raised to the caller."""


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Ask a pipeline (with a timeout): the reply is a `PipelineStatus`. Answered at once, whatever runs."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """To a pipeline: tell `ref` of every event from now on. Whoever has ended is forgotten."""

    ref: Any
    """An actor's ref, or anything with `tell(message)`; it MUST NOT block."""
    kinds: tuple[type, ...] = ()
    """The classes of events to be told of; none: all."""

    def __post_init__(self) -> None:
        if not callable(getattr(self.ref, "tell", None)):
            raise ConfigError(f"ref must be an actor's ref, or have a method tell(message), not {self.ref!r}")
        if not isinstance(self.kinds, tuple | list) or not all(isinstance(kind, type) for kind in self.kinds):
            raise ConfigError(f"kinds must be a tuple of classes of events, such as (NodeFailed,), not {self.kinds!r}")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, not {value!r}")
