"""Metrics of a node: where the time of its workers and its reader goes. Summed per task and per wait."""

from __future__ import annotations

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.messages import TaskDone, TimeSpent

TELL_SECONDS = 1.0
"""How often they are reported to the supervisor, at most."""


class WorkerMetrics:
    """What the workers of a node did. Used by the node's thread alone.

    Args:
        node_id: the node's id.
        workers: how many there are at most.
        supervisor: who is told.
    """

    def __init__(self, node_id: str, workers: int, supervisor: Recipient) -> None:
        self._node_id = node_id
        self.workers = workers
        self._supervisor = supervisor
        self._busy = self._held_back = 0.0
        self._times_held = 0
        self._last_told = float("-inf")

    def add(self, done: TaskDone, now: float) -> None:
        """Add a task that has ended."""
        self._busy += done.seconds
        if done.held_back:
            self._held_back += done.held_back
            self._times_held += 1
        if now - self._last_told >= TELL_SECONDS:
            self._last_told = now
            self.tell()

    def tell(self) -> None:
        """Tell the supervisor."""
        figures = {
            "workers": self.workers,
            "busy_s": round(self._busy, 3),
            "held_back_s": round(self._held_back, 3),
            "held_back_times": self._times_held,
        }
        tell(self._supervisor, TimeSpent(self._node_id, figures))


class SourceMetrics:
    """How long a reader had nothing to give that was asked for. Used by the reader's thread alone.

    Args:
        node_id: the node's id.
        supervisor: who is told.
    """

    def __init__(self, node_id: str, supervisor: Recipient) -> None:
        self._node_id = node_id
        self._supervisor = supervisor
        self._starved = 0.0
        self._times = 0
        self._last_told = float("-inf")

    def add(self, waited: float, now: float) -> None:
        """Add a wait that is over."""
        self._starved += waited
        self._times += 1
        if now - self._last_told >= TELL_SECONDS:
            self._last_told = now
            self.tell()

    def tell(self) -> None:
        """Tell the supervisor."""
        figures = {"starved_s": round(self._starved, 3), "starved_times": self._times}
        tell(self._supervisor, TimeSpent(self._node_id, figures))
