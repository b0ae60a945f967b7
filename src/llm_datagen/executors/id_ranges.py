"""What the id scheme "numeric" must remember: which ids a node keeps and which it makes. The two must not meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import IdError
from llm_datagen.streams.ids import Id


class IdRanges:
    """The ranges of kept and made ids of a block run."""

    def __init__(self) -> None:
        self.ranges: dict[str, Any] = {}

    def kept(self, row_id: Id) -> None:
        """Record that a row keeps its id.

        Raises:
            IdError: when that is not a number.
        """
        if not isinstance(row_id, int):
            raise IdError(f'row {row_id!r} has no numeric id; use id_scheme="path"')
        self._widen("kept", row_id)

    def made(self, row_id: Id) -> None:
        """Record that a child was given an id."""
        self._widen("made", row_id)

    def _widen(self, kind: str, row_id: Id) -> None:
        low, high = self.ranges.get(kind, (row_id, row_id))
        self.ranges[kind] = [min(low, row_id), max(high, row_id)]


def joined_ranges(known: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the ranges of several blocks as one; None for no block. Whether kinds overlap is not checked."""
    joined = {}
    for kind in ("kept", "made"):
        ranges = [marks[kind] for marks in known if kind in marks]
        if ranges:
            joined[kind] = [min(low for low, _ in ranges), max(high for _, high in ranges)]
    return joined if known else None


def merged_marks(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the ranges of kept and made ids of a node after another block.

    Raises:
        IdError: when they overlap: a kept id could be the same as a child's.
    """
    merged = joined_ranges([old, new]) or {}
    if len(merged) == 2:
        (low, high), (made_low, made_high) = merged["kept"], merged["made"]
        if low <= made_high and made_low <= high:
            raise IdError(
                f"a node keeps ids from {low} to {high} and makes children from {made_low} to {made_high}: under "
                'id_scheme="numeric" they could be the same; use id_scheme="path"'
            )
    return merged
