"""Rejected rows, counted by the reason that their operator gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.runs.browse.failures import committed
from llm_datagen.runs.words import cut
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.ids import Id
from llm_datagen.streams.position import Position
from llm_datagen.streams.rejected import read_rejected

_MOST_REASONS = 200
"""Reasons per node that are counted one by one."""

_REASON_CHARS = 2_000

OTHERS = "(other reasons)"
NOT_KEPT = "(not kept: keep_rejected=True keeps such rows, with their reasons)"


@dataclass(slots=True, kw_only=True)
class ReasonCount:
    """Rows that a node has rejected for the same reason.

    Attributes:
        node_id: the node.
        reason: the reason, shortened; in brackets, that it is one of many others, or was not kept.
        count: how many rows.
        row_id: the id of the first one; None of rows that are not kept.
    """

    node_id: str
    reason: str
    count: int = 0
    row_id: Id | None = None


def reasons_of(entries: Iterable[Mapping[str, Any]]) -> list[ReasonCount]:
    """Return how many rows some nodes have rejected for which reason, the most frequent first.

    What is kept of rejected rows is read, one row at a time.

    Args:
        entries: the nodes, in run states; of a run in shards, those of all shards.

    Raises:
        StreamError: when it cannot be read.
    """
    found: dict[tuple[str, str], ReasonCount] = {}
    for entry in entries:
        if not entry.get("rejected"):  # most nodes: nothing of them is opened
            continue
        node_id, stream = entry["node_id"], StreamFactory.output_of(entry)
        position = committed(stream, entry) or Position()
        kept = 0
        for row in read_rejected(stream, position=position):
            reason = cut(str(row["reason"]), _REASON_CHARS)
            if (node_id, reason) not in found and sum(node == node_id for node, _ in found) >= _MOST_REASONS:
                reason = OTHERS
            of_reason = found.setdefault((node_id, reason), ReasonCount(node_id=node_id, reason=reason))
            of_reason.row_id = row["_i"] if of_reason.row_id is None else of_reason.row_id
            of_reason.count += 1
            kept += 1
        if position.rejected > kept:
            of_reason = found.setdefault((node_id, NOT_KEPT), ReasonCount(node_id=node_id, reason=NOT_KEPT))
            of_reason.count += position.rejected - kept
    return sorted(found.values(), key=lambda each: -each.count)
