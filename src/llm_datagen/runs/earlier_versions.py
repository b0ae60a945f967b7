"""Rows of an earlier version of an operator, which stay in a run because an edit was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Older:
    """Rows of a node that an earlier version of its operator did.

    Attributes:
        rows: how many source rows.
        parts: the parts of the operator that were edited since, and accepted.
    """

    rows: int
    parts: tuple[str, ...]


def older_rows(entry: Mapping[str, Any]) -> Older | None:
    """Return the rows that are still those of earlier versions of a node's operator; None when there are none.

    Args:
        entry: the node in the run state; its ``changes`` after the last rerun count.
    """
    rows, parts = 0, {}
    for note in entry.get("changes") or ():
        if note["on_change"] == "accept":
            rows = note["rows"]  # of all versions before
            parts.update(dict.fromkeys(note["parts"]))
        else:
            rows, parts = 0, {}
    return Older(rows=rows, parts=tuple(parts)) if rows else None
