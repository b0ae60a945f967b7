"""Who runs the shards of a run: processes of this machine, a cluster. The driver knows only these protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llm_datagen.errors import FailureRecord
from llm_datagen.messages import Cancel, GiveAway, Pause, Reconfigure, Unpause
from llm_datagen.shards.passed_events import PackedEvent


@dataclass(frozen=True, slots=True)
class PassEventsOn:
    """Somebody watches the whole: from now on, `ShardHandle.events` is to return events of the shard's run."""


Command = Pause | Unpause | Cancel | Reconfigure | GiveAway | PassEventsOn
"""What a shard may be told."""


@dataclass(frozen=True, slots=True)
class ShardJob:
    """A shard that is to be run, as it is sent to whoever runs it.

    Attributes:
        folder: the folder of the shards of the run, ``<results_dir>/<id>/shards``: a path, or an address in a store.
        number: the number of the shard, from 0.
        packed: the operators, pickled, as `executors.process.pickling.pack` makes them.
        environment: variables of the environment that the shard is run with, besides those of its host.
        is_watched: whether somebody watches the whole already; see `PassEventsOn`.
    """

    folder: str
    number: int
    packed: bytes
    environment: Mapping[str, str] = field(default_factory=dict)
    is_watched: bool = False


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """How a shard has ended.

    Attributes:
        status: the status of its run, as the run state has it; "failed" when its process died.
        error: what ended it, for people; empty when nothing did.
        is_lost: whether its process, or its machine, died: the shard may be run again at once.
        node_id: the node that has failed, if one has.
        failure: what it has failed of.
        packed: the exception itself, as `executors.process.pickling.pack_error` makes it.
    """

    status: str
    error: str = ""
    is_lost: bool = False
    node_id: str = ""
    failure: FailureRecord | None = field(default=None, repr=False)
    packed: bytes | None = field(default=None, repr=False)


class ShardHandle(Protocol):
    """A shard that is being run. Any thread may use it."""

    @property
    def number(self) -> int:
        """The number of the shard."""

    def status(self) -> Mapping[str, Any] | None:
        """Return what `GetStatus` returns of its run, as plain data; None while it is not known."""

    def events(self) -> Sequence[PackedEvent]:
        """Return the events of its run since the last call, once they are wanted: the job or `PassEventsOn` says so.

        Who cannot tell them returns none: then those who watch the whole hear of its progress and its end only.
        """

    def send(self, command: Command) -> Any:
        """Tell its run a command (Pause, Unpause, Cancel, Reconfigure, GiveAway), or `PassEventsOn`; return the answer.

        A shard that is not told of `GiveAway` keeps its rows: then the answer is anything but True.

        Raises:
            NotRunningError: when it has ended.
        """

    def wait(self, seconds: float | None = None) -> ShardOutcome | None:
        """Wait until it has ended; None when it has not, after so many seconds."""

    def kill(self) -> None:
        """End it at once, without a word. May be called more than once."""


class ShardExecutor(Protocol):
    """Runs shards. The driver's thread uses it."""

    @property
    def workers(self) -> int | None:
        """How many shards it runs at once, at most; None: it decides by itself, and all may be started."""

    @property
    def host(self) -> str | None:
        """The name, or the address, of this machine as shards reach it; None: they run on it."""

    def start(self, job: ShardJob) -> ShardHandle:
        """Begin to run a shard; return at once.

        Raises:
            RunError: when it cannot.
        """

    def close(self) -> None:
        """Give back what it holds. What still runs is killed."""
