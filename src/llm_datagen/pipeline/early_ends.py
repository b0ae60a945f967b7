"""Which nodes of a run have ended, or need not go on, though their inputs have not: what a target is for."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.runs.unneeded import unneeded


def without_readers(nodes: Sequence[UnifiedNode]) -> list[UnifiedNode]:
    """Return the nodes of which nobody would read more rows; `nodes` are in reading order. See `unneeded`."""
    return unneeded(
        nodes,
        reads=lambda node, other: other.output.place in node.input.places,
        has_target=lambda node: node.settings["target"] is not None,
        has_met_target=UnifiedNode.has_met_target,
    )


def unneeded_ids(nodes: Sequence[UnifiedNode]) -> set[str]:
    """Return the ids of the nodes that are not finished, and need not go on."""
    return {node.node_id for node in without_readers(nodes) if not node.is_finished()}


def are_over(nodes: Sequence[UnifiedNode]) -> bool:
    """Return whether each node is finished, or not needed."""
    left_out = unneeded_ids(nodes)
    return all(node.node_id in left_out or node.is_finished() for node in nodes)
