"""The graph of nodes and streams: whether it can run, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.streams import Place


def check_topology(nodes: Sequence[UnifiedNode]) -> None:
    """Check that nodes can run together.

    Raises:
        ConfigError: when there are none, an id repeats, a stream has two writers, or they form a cycle.
    """
    if not nodes:
        raise ConfigError("a pipeline needs at least one node")
    writers: dict[Place, str] = {}
    ids: set[str] = set()
    for node in nodes:
        if node.node_id in ids:
            raise ConfigError(f"two nodes have the id {node.node_id!r}")
        ids.add(node.node_id)
        key = node.output.place
        if key in writers:
            raise ConfigError(f"{node.node_id} and {writers[key]} would both write {node.output.uri!r}")
        writers[key] = node.node_id
    in_reading_order(nodes)


def in_reading_order(nodes: Sequence[UnifiedNode]) -> list[UnifiedNode]:
    """Return the nodes so that each comes after the one that writes what it reads.

    Raises:
        ConfigError: when they form a cycle.
    """
    writers = {node.output.place: node for node in nodes}
    before = {node: {writers[place] for place in node.input.places if place in writers} for node in nodes}
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        names = " → ".join(node.node_id for node in error.args[1])
        raise ConfigError(f"the nodes form a cycle: {names}") from None
