"""Which nodes of a run need not go on, as those that read what they write have met their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

N = TypeVar("N")


def unneeded(
    nodes: Sequence[N],
    *,
    reads: Callable[[N, N], bool],
    has_target: Callable[[N], bool],
    has_met_target: Callable[[N], bool],
) -> list[N]:
    """Return the nodes of which nobody needs what they have not done.

    All that read what such a node writes have met their targets, or are such nodes. A node that nobody reads writes
    results, so it is needed; and one that has a target itself is needed until that is met.

    Args:
        nodes: each behind those that it reads from.
        reads: whether the first node reads what the second one writes.
        has_target: whether a node has a target.
        has_met_target: whether it has met it.
    """
    found: list[N] = []
    for node in reversed(nodes):
        readers = [other for other in nodes if reads(other, node)]
        is_over = all(has_met_target(reader) or reader in found for reader in readers)
        if readers and is_over and not has_target(node):
            found.append(node)
    return found
