"""Metrics of a node: where the time of its workers and its reader goes, and what they have now."""

from __future__ import annotations

from collections.abc import Callable

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.messages import TaskDone, TimeSpent

TELL_SECONDS = 1.0
"""How often they are reported to the supervisor, at most."""


class _Metrics:
    """Sums of seconds and counts, reported once in a while. Used by the thread of one actor.

    Args:
        node_id: the node's id.
        supervisor: who is told.
    """

    def __init__(self, node_id: str, supervisor: Recipient) -> None:
        self._node_id = node_id
        self._supervisor = supervisor
        self._last_told = float("-inf")
        self._told: dict[str, float] = {}

    def _tell_in_time(self, now: float) -> None:
        if now - self._last_told >= TELL_SECONDS:
            self._last_told = now
            self.tell()

    def tell(self) -> None:
        """Report the figures to the supervisor."""
        self._told = self._figures()
        tell(self._supervisor, TimeSpent(self._node_id, self._told))

    def tell_changes(self) -> None:
        """Report the figures to the supervisor if they are others than those that were reported last."""
        if self._figures() != self._told:
            self.tell()

    def _figures(self) -> dict[str, float]:
        return {}


class WorkerMetrics(_Metrics):
    """What the workers of a node did.

    Args:
        node_id: the node's id.
        workers: how many there are at most.
        supervisor: who is told.
        load: returns the source rows that the workers have, and the rows that wait for the writer.

    Attributes:
        workers: how many there are now.
        rate_limited_s, lead_limited_s: as the dispatcher says.
    """

    def __init__(self, node_id: str, workers: int, supervisor: Recipient, load: Callable[[], tuple[int, int]]) -> None:
        super().__init__(node_id, supervisor)
        self.workers = workers
        self._load = load
        self._busy = self._held_back = 0.0
        self._times_held = 0
        self.rate_limited_s = self.lead_limited_s = 0.0

    def add(self, task: TaskDone, now: float) -> None:
        """Add a task that has ended."""
        self._busy += task.result.seconds
        self._held_back += task.held_back
        self._times_held += bool(task.held_back)
        self._tell_in_time(now)

    def _figures(self) -> dict[str, float]:
        in_flight, queued = self._load()
        return {
            "workers": self.workers,
            "in_flight": in_flight,
            "queued": queued,
            "busy_s": round(self._busy, 3),
            "held_back_s": round(self._held_back, 3),
            "held_back_times": self._times_held,
            "rate_limited_s": round(self.rate_limited_s, 3),
            "lead_limited_s": round(self.lead_limited_s, 3),
        }


class SourceMetrics(_Metrics):
    """How long a reader had nothing to give that was asked for."""

    _starved = 0.0
    _times = 0

    def add(self, waited: float, now: float) -> None:
        """Add a wait that is over."""
        self._starved += waited
        self._times += 1
        self._tell_in_time(now)

    def _figures(self) -> dict[str, float]:
        return {"starved_s": round(self._starved, 3), "starved_times": self._times}
