"""What calls have used, on its way to the supervisor: reports that come close together are one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.messages import UsageReported

TELL_SECONDS = 0.1
"""Reports are sent on at most once in so many seconds; what comes in between is added up."""


class UsageReports:
    """Adds up what the calls of a node report. Any thread may use it.

    Args:
        pipeline_id: the pipeline's id.
        node_id: the node's id.
        supervisor: gets the sums.
    """

    def __init__(self, pipeline_id: str, node_id: str, supervisor: Recipient) -> None:
        self._pipeline_id = pipeline_id
        self._node_id = node_id
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str], dict[str, float]] = {}
        self._due = float("-inf")

    def add(self, provider: str, model: str, metrics: Mapping[str, float]) -> None:
        """Add a report. It is sent on at once when the last one was a while ago."""
        with self._lock:
            sums = self._sums.setdefault((provider, model), {})
            for name, value in metrics.items():
                sums[name] = sums.get(name, 0) + value
            is_due = time.monotonic() >= self._due
        if is_due:
            self.tell()

    def tell(self) -> None:
        """Send on what waits."""
        with self._lock:
            found, self._sums = self._sums, {}
            self._due = time.monotonic() + TELL_SECONDS
        for (provider, model), sums in found.items():
            tell(self._supervisor, UsageReported(self._pipeline_id, self._node_id, provider, model, sums))
