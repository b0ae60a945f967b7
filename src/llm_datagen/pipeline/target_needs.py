"""How many source rows each node of a run has to do until the targets are met: an estimate, from the last node back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.streams import Place
from llm_datagen.streams.position import Position

UNKNOWN = None
"""A target ends the node, and nobody can say after how many rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a node stands.

    Attributes:
        node: the node.
        kept: what stays of its output; empty when all is done again.
        rate: how many rows have come of a row that did not fail; None when that is not known.
        has_ended: whether it is to do no row more.
    """

    node: UnifiedNode
    kept: Position
    rate: float | None
    has_ended: bool

    @property
    def target(self) -> float | None:
        """How many rows it is to write; None for no target."""
        target: float | None = self.node.settings["target"]  # type: ignore[assignment]
        return target


def rows_needed(standings: Sequence[Standing], *, streaming: bool) -> dict[str, float | None]:
    """Return how many source rows each node has to do besides those that it has done, by the ids of the nodes.

    That is infinite for a node that does its whole source, and `UNKNOWN` where a target ends it earlier.

    Args:
        standings: the nodes, each behind those that it reads from.
        streaming: whether they run at once; else each of them ends before the one behind it begins.
    """
    wanted: dict[Place, float | None] = {}
    needed: dict[str, float | None] = {}
    for each in reversed(standings):
        rows: float | None = wanted.get(each.node.output.place, math.inf)
        if each.target is not None:
            rows = each.target
        needed[each.node.node_id] = more = _needed(each, rows)
        parts = each.node.input.parts(each.kept.coverage)
        for stream, covered in parts:
            is_known = more in (0, math.inf) or len(parts) == 1  # of several, nobody knows which one gives the rows
            of_stream = covered.rows + more if more is not UNKNOWN and is_known else UNKNOWN
            does_all = not streaming and not each.has_ended
            wanted[stream.place] = _most(wanted.get(stream.place, 0), math.inf if does_all else of_stream)
    return needed


def _needed(each: Standing, wanted: float | None) -> float | None:
    """Return how many source rows a node has to do, given how many rows it is to have written."""
    if each.has_ended:
        return 0
    if wanted is UNKNOWN:
        return UNKNOWN
    more = max(0, wanted - each.kept.rows)
    if more in (0, math.inf):
        return more
    return more / each.rate if each.rate else UNKNOWN


def _most(first: float | None, second: float | None) -> float | None:
    if math.inf in (first, second):
        return math.inf
    return UNKNOWN if first is UNKNOWN or second is UNKNOWN else max(first, second)
