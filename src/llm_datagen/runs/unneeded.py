"""Which nodes of a run need not go on, as those that read what they write have met their targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from llm_datagen.streams import StreamFactory
from llm_datagen.streams.recovery import last_position

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


def unneeded_nodes(run_state: dict[str, Any]) -> set[str]:
    """Return the ids of the nodes of a run that are not finished, and need not go on, as the streams say."""
    if all(entry.get("target") is None for entry in run_state["nodes"]):
        return set()
    sources = {entry["node_id"]: StreamFactory.input_of(entry).places for entry in run_state["nodes"]}
    outputs = {entry["node_id"]: StreamFactory.create(entry["output_uri"]) for entry in run_state["nodes"]}

    def has_met_target(entry: dict[str, Any]) -> bool:
        return last_position(outputs[entry["node_id"]]).rows >= (entry.get("target") or math.inf)

    found = unneeded(
        run_state["nodes"],
        reads=lambda entry, other: outputs[other["node_id"]].place in sources[entry["node_id"]],
        has_target=lambda entry: entry.get("target") is not None,
        has_met_target=has_met_target,
    )
    return {entry["node_id"] for entry in found if not outputs[entry["node_id"]].is_sealed()}
