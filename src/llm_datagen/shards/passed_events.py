"""Events of a shard that are passed on to whoever watches the whole: rows that failed, usage, stalls, messages.

They are told to people, and counted nowhere: what counts is in the run state. So where they come faster than they are
passed on, usage is summed, and other events are dropped, as for slow hooks.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from llm_datagen.errors import RemoteError
from llm_datagen.executors.process.pickling import pack_error, unpack_error
from llm_datagen.messages import OperatorLogged, RowDeadLettered, Stalled, UsageReported

MAX_WAITING = 100
"""How many messages, and how many other events of a shard wait to be passed on; those that come then are dropped."""

Passed = OperatorLogged | RowDeadLettered | Stalled | UsageReported
"""What is passed on."""

KINDS: tuple[type, ...] = tuple(kind for kind in get_args(Passed) if kind is not OperatorLogged)
"""What is passed on if somebody watches. What operators log always is: the whole says at its end what they changed."""

_ELSEWHERE = RemoteError("this exception is packed apart")


@dataclass(frozen=True, slots=True)
class PackedEvent:
    """An event as it is sent from one process to another.

    Attributes:
        event: all of it that can be sent in any case.
        error: the exception, as `pack_error` makes it.
        items: the rows, pickled; None when they cannot be.
    """

    event: Passed
    error: bytes | None = field(default=None, repr=False)
    items: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, event: Passed) -> PackedEvent:
        """Pack an event."""
        if not isinstance(event, RowDeadLettered):
            return cls(event)
        try:
            items = pickle.dumps(event.items)
        except Exception:  # noqa: BLE001 - objects of the program's own
            items = None
        return cls(replace(event, error=_ELSEWHERE, items=[]), pack_error(event.error), items)

    def unpack(self, pipeline_id: str, shard: int) -> Passed:
        """Return the event, as one of the run that has this id; what operators log begins with its number."""
        if isinstance(self.event, OperatorLogged):
            of_shard = "" if self.event.own_state else f"shard {shard}: "  # that is of the operator, in any shard
            return replace(self.event, pipeline_id=pipeline_id, message=of_shard + self.event.message)
        if not isinstance(self.event, RowDeadLettered):
            return replace(self.event, pipeline_id=pipeline_id)
        error = unpack_error(self.error, self.event.failure)
        return replace(self.event, pipeline_id=pipeline_id, error=error, items=self._rows())

    def _rows(self) -> list[Any]:
        try:
            return [] if self.items is None else list(pickle.loads(self.items))
        except Exception:  # noqa: BLE001 - of a class that this process does not have
            return []


class EventBox:
    """Keeps events of a shard until they are passed on. Any thread may use it; nobody waits.

    Attributes:
        is_open: whether anybody wants them; else all but messages of operators are dropped.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self._changing = threading.Lock()
        self._usage: dict[tuple[str, str, str], UsageReported] = {}
        self._others: list[PackedEvent] = []
        self._logged: list[PackedEvent] = []

    def tell(self, message: Any) -> None:
        """Take what the actor of a run tells: events that are not passed on are left out."""
        if isinstance(message, OperatorLogged) or (self.is_open and isinstance(message, Passed)):
            with self._changing:
                if isinstance(message, UsageReported):
                    self._add(message)
                elif len(self._waiting(message)) < MAX_WAITING:
                    self._waiting(message).append(PackedEvent.of(message))

    def put(self, events: Sequence[PackedEvent]) -> None:
        """Take events that another box has kept."""
        with self._changing:
            for each in events:
                if isinstance(each.event, UsageReported):
                    self._add(each.event)
                elif len(self._waiting(each.event)) < MAX_WAITING:
                    self._waiting(each.event).append(each)

    def take(self) -> list[PackedEvent]:
        """Return what has come since the last time."""
        with self._changing:
            found = [*self._others, *self._logged, *map(PackedEvent, self._usage.values())]
            self._others, self._logged, self._usage = [], [], {}
        return found

    def _waiting(self, event: Passed) -> list[PackedEvent]:
        """Return what an event waits with: operators that log much drop no rows that failed."""
        return self._logged if isinstance(event, OperatorLogged) else self._others

    def _add(self, usage: UsageReported) -> None:
        key = usage.node_id, usage.provider, usage.model
        self._usage[key] = self._usage[key].plus(usage) if key in self._usage else usage
