"""Which node of a run somebody means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean


def chosen_nodes(run_state: Mapping[str, Any], node: str | None) -> list[dict[str, Any]]:
    """Return the entries of a node in a run state; of all nodes for None.

    Args:
        run_state: the run state.
        node: the id of a node, its number, or the name of its operator, if no other node has that.

    Raises:
        ConfigError: when there is no such node, or several.
    """
    entries: list[dict[str, Any]] = run_state["nodes"]
    if node is None:
        return entries
    for name in (node, f"node_{node}"):
        if found := [entry for entry in entries if entry["node_id"] == name]:
            return found
    named = {entry["node_id"]: entry["operator"].replace(":", ".").rpartition(".")[2] for entry in entries}
    found = [entry for entry in entries if node in (entry["operator"], named[entry["node_id"]])]
    if len(found) > 1:
        raise ConfigError(f"--node {node}: several nodes have it: {', '.join(entry['node_id'] for entry in found)}")
    if not found:
        raise ConfigError(f"--node {node}: the run has no such node; {did_you_mean(node, [*named, *named.values()])}")
    return found
