"""Targets of a run that is resumed: changed, where that can be done; and what a replay leaves as it is.

Whether nodes can take the rows of a target that was raised, `past_ends` knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config import check_target
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.early_ends import without_readers
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.state_file import change_settings
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import last_position
from llm_datagen.streams.target_mark import TargetMark

_AFRESH = "start afresh (if_exists='overwrite'), or create another run with this target"


def change_target(run_state: dict[str, Any], target: Any) -> None:
    """Write into a run state how many rows a node writes from now on, or several nodes.

    Args:
        run_state: the run state.
        target: of the node that has a target, or else writes the output; or targets by ids of nodes.

    Raises:
        ConfigError: on a wrong value, or a target that cannot be met any more.
    """
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    targets = target if isinstance(target, Mapping) else {_only_node(run_state): target}
    for node_id, value in targets.items():
        if node_id not in entries:
            raise ConfigError(f"target: the run has no node {node_id!r}, only {', '.join(entries)}")
        rows = check_target("target" if target is value else f"target of {node_id}", value)
        _check_can_be_met(entries[node_id], rows)
        change_settings(entries[node_id], {"target": rows})
        entries[node_id]["target_rows"] = rows


def _only_node(run_state: Mapping[str, Any]) -> str:
    """Return the id of the node whose target it is, if there is no doubt."""
    nodes = [entry for entry in run_state["nodes"] if not is_id_stripper(entry)]
    copied = {entry["input_uri"] for entry in run_state["nodes"] if is_id_stripper(entry)}
    read = {place for entry in nodes for place in StreamFactory.input_of(entry).places}
    found = [entry for entry in nodes if entry.get("target") is not None] or [
        entry
        for entry in nodes
        if StreamFactory.create(entry["output_uri"]).place not in read or entry["output_uri"] in copied
    ]
    if len(found) != 1:
        names = [entry["node_id"] for entry in found]
        example = f"target={{{names[0]!r}: 10_000}}, or --target {names[0]}=10000"
        raise ConfigError(f"target: several nodes may be meant: {', '.join(names)}; say which, such as {example}")
    return str(found[0]["node_id"])


def _check_can_be_met(entry: Mapping[str, Any], rows: int) -> None:
    node_id, position = entry["node_id"], _position(entry)
    mark = TargetMark.of(position.marks)
    if position.rows > rows:
        raise ConfigError(
            f"target: {node_id} has {position.rows:,} rows already, more than {rows:,}; give a larger number, or "
            f"{_AFRESH}"
        )
    if position.rows == rows:
        return
    if entry["delivery"] == "at_most_once" and mark.beyond:
        raise ConfigError(
            f"target: {mark.beyond:,} rows were in the operator of {node_id} when its target was met, and with "
            f"delivery='at_most_once' they may not be handed to it again; {_AFRESH}"
        )


def _position(entry: Mapping[str, Any]) -> Position:
    return last_position(StreamFactory.create(entry["output_uri"]))


def kept_dead_letters(failed: Sequence[UnifiedNode], nodes: Sequence[UnifiedNode]) -> list[StartNotice]:
    """Return which nodes with dead letters do not do them again, and why: their rows would be beyond a target."""
    left_out = without_readers(nodes)
    return [
        StartNotice(
            node.node_id,
            f"the dead letters of {node.node_id} stay as they are: the target of "
            f"{'a node behind it' if node in left_out else 'the node'} is met; to try them again, raise it: "
            "resume(target=), or resume --target",
        )
        for node in failed
        if node.has_met_target() or node in left_out
    ]
