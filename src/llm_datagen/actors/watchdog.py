"""The stall watchdog: notices that nothing moves in a node, though there is work."""

from __future__ import annotations

from llm_datagen.actors.clock import Clock
from llm_datagen.actors.in_flight import InFlight
from llm_datagen.messages import Moved, Stalled


class StallWatchdog:
    """Knows since when nothing has moved, and what was reported of it. Used by the node's own thread.

    Args:
        clock: what it goes by.
        patience: seconds without movement that are a stall.
        pipeline_id: the pipeline's id, for reports.
        node_id: the node's id, for reports.
    """

    def __init__(self, clock: Clock, patience: float, pipeline_id: str, node_id: str) -> None:
        self._clock = clock
        self._patience = patience
        self._pipeline_id = pipeline_id
        self._node_id = node_id
        self._moved = clock.monotonic()
        self._is_stalled = False

    def moved(self) -> None:
        """Record that something has moved."""
        self._moved = self._clock.monotonic()

    def check(self, waits_on: str, in_flight: InFlight) -> Moved | Stalled | None:
        """Return the report that a stall has begun, or is over: each once per stall.

        Args:
            waits_on: what the node waits for; "" when there is nothing to do, which is no stall.
            in_flight: the tasks that do not move.
        """
        seconds = self._clock.monotonic() - self._moved
        is_late = seconds >= self._patience
        if self._is_stalled and not is_late:
            self._is_stalled = False
            return Moved(self._node_id)
        if self._is_stalled or not is_late or not waits_on:
            return None
        self._is_stalled = True
        return Stalled(
            pipeline_id=self._pipeline_id,
            node_id=self._node_id,
            seconds=seconds,
            waits_on=waits_on,
            ids=in_flight.ids_begun(),
            in_flight=in_flight.rows_begun,
        )
