"""The lines in the platform log that say which rows failed."""

from __future__ import annotations

from llm_datagen.messages.block_result import OperatorFailure
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog

FAILURES_LOGGED = 10
"""Rows that failed of which each has a line in the log; of more, one per second."""

IDS_SHOWN = 10
"""Ids of rows that failed in a line of the log, at most."""


class FailureLog:
    """Says in the log which rows failed: the first ten of a node, then one per second, with how many in between.

    Args:
        log: the platform log.
    """

    def __init__(self, log: PlatformLog) -> None:
        self._log = log
        self._count: dict[str, int] = {}
        self._next_line: dict[str, float] = {}

    def note(self, node_id: str, failure: OperatorFailure, now: float) -> None:
        """Log rows that failed and that the node goes on without, if it is time for a line."""
        count = self._count[node_id] = self._count.get(node_id, 0) + failure.rows
        if count > FAILURES_LOGGED and now < self._next_line.get(node_id, 0.0):
            return
        self._next_line[node_id] = now + 1.0
        self._log.warning(
            events.ROW_FAILED,
            node_id=node_id,
            ids=ids_shown(failure),
            kind=failure.record.kind,
            failed_in_run=count,
        )


def ids_shown(failure: OperatorFailure) -> list[str]:
    """Return the ids of rows that failed, as a line of the log has them."""
    return [str(row_id) for row_id in failure.ids[:IDS_SHOWN]]
