"""An endpoint of jobs that is away: it answers nothing but errors, so nobody hears how the jobs stand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.pool.circuit_breaker import FailureKind, failure_kind
from llm_datagen.runs.outage import OutageReport, down_endpoint
from llm_datagen.streams.storage.owner import time_text

if TYPE_CHECKING:
    from llm_datagen.llm.batch.node_jobs import NodeJobs

FAILURES_BEFORE_TOLD = 3
"""Failures in a row after which the run state says so: one by itself is nothing to a job that takes hours."""


class Away:
    """Tells the node while an endpoint is away. Used on the event loop of the node.

    Args:
        node: the jobs of the node.
        label: the endpoint.
    """

    def __init__(self, node: NodeJobs, label: str) -> None:
        self._node = node
        self._label = label
        self._since = datetime.now(UTC)
        self._failures = 0

    def failed(self, error: LLMRequestError) -> None:
        """The endpoint has answered with an error; what shows that it is there does not count."""
        if failure_kind(error) is not FailureKind.FAILS:
            return
        if not self._failures:
            self._since = datetime.now(UTC)
        self._failures += 1
        if self._failures >= FAILURES_BEFORE_TOLD:
            down = down_endpoint(self._label, time_text(self._since), error.status, error, self._failures)
            self._node.note_outage(self._label, OutageReport(endpoints=[down], calls=self._node.rows))

    def answered(self) -> None:
        """The endpoint has answered."""
        if self._failures >= FAILURES_BEFORE_TOLD:
            self._node.note_outage(self._label, None)
        self._failures = 0
