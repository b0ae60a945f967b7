"""Which rows failed: the lines in the platform log, and what people are shown of the one that ended a run."""

from __future__ import annotations

import contextlib

from llm_datagen.errors import StreamError
from llm_datagen.errors.escape import shortened
from llm_datagen.messages.block_result import OperatorFailure
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.streams import Source

FAILURES_LOGGED = 10
"""Rows that failed of which each has a line in the log; of more, one per second."""

IDS_SHOWN = 10
"""Ids of rows that failed in a line of the log, at most."""

_ID_CHARS = 100


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


def failed_row(source: Source, failure: OperatorFailure) -> str | None:
    """Return the row that failed, such as ``row 17 (in.jsonl, line 18): {"n": 17}``; None when it was none's fault.

    Of a batch, the first row is shown. The file is read up to the row, to count its lines.

    Args:
        source: what the node reads.
        failure: what ended the node.
    """
    if failure.is_fatal or not failure.ids:
        return None
    more = f" and {len(failure.ids) - 1} more with it" if len(failure.ids) > 1 else ""
    where = ""
    with contextlib.suppress(OSError, StreamError):  # it is gone, or cannot be read: the row is known all the same
        where = f" ({source.line_place(failure.offset)})"
    return f"row {shortened(str(failure.ids[0]), _ID_CHARS)}{more}{where}: {failure.excerpt}"
