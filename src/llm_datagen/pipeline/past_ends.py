"""Nodes that cannot go on as they are: they are done again, with all behind them, or the run does not go on.

Most have given, at the end of their sources, what their operators had left, so they can take no more rows. An older
version may have copied rows otherwise; or they have more of them than a target that is theirs since the steps were
changed. That is known before anything is changed: a row may come from far away, through nodes that are all sealed now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import StreamChangedError
from llm_datagen.operators import operator_name
from llm_datagen.pipeline.early_ends import without_readers
from llm_datagen.pipeline.fan_in import Merger
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.rows_left import has_rows_left
from llm_datagen.runs.id_stripper import IdStripper
from llm_datagen.runs.past_end import rerun_advice
from llm_datagen.streams import Place, StreamFactory
from llm_datagen.streams.position import END, Position
from llm_datagen.streams.recovery import last_position
from llm_datagen.streams.target_mark import TargetMark

GIVEN = "after the end of its input, it has given what its operator had left (finish)"

SPLIT = "an older version has made several rows of rows that are lists, and none of null"


def past_ends(nodes: Sequence[UnifiedNode], *, is_replay: bool = False) -> dict[str, str]:
    """Return why nodes cannot go on as they are, by their ids; of several, one behind the other, the first one.

    Args:
        nodes: those of a run, in reading order, with what they read checked (`check_inputs`).
        is_replay: whether dead letters are done again.
    """
    positions = {node.node_id: last_position(node.output) for node in nodes}
    found = {node.node_id: SPLIT for node in nodes if _has_split(node, positions[node.node_id])}
    if not any(END in position.marks for position in positions.values()):
        return found
    left_out = without_readers(nodes)
    written = {node.output.place for node in nodes}
    growing: set[Place] = set()
    for node in nodes:
        position = positions[node.node_id]
        if node in left_out or node.has_met_target() or node.node_id in found:
            continue
        is_replayed = is_replay and position.dead > 0
        gets_more = is_replayed or not growing.isdisjoint(node.input.places) or has_rows_left(node, written)
        if END in position.marks and (gets_more or _is_cut(position)):
            why = "more rows would come to it" if gets_more else "a target has cut that"
            found[node.node_id] = f"{GIVEN}, and {why}"
        elif gets_more:
            growing.add(node.output.place)
    return found


def _has_split(node: UnifiedNode, position: Position) -> bool:
    """Return whether a node that copies each row has more rows than it has copied, or has filtered some."""
    copied = position.coverage.rows - position.dead - position.skipped
    has_others = position.rows != copied and TargetMark.of(position.marks).rows is None
    return isinstance(node.operator, Merger | IdStripper) and bool(position.filtered or has_others)


def past_targets(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return why nodes cannot stay as they are: they have more rows than their target, which was another node's.

    Args:
        old: the nodes of a run, by which their rows lie.
        new: the nodes as they are to be.
    """
    targets = {entry["node_id"]: entry.get("target") for entry in new}
    found = {}
    for entry in old:
        target = targets.get(entry["node_id"])
        if target is None or target == entry.get("target"):
            continue
        rows = last_position(StreamFactory.create(entry["output_uri"])).rows
        if rows > target:
            found[entry["node_id"]] = f"it has {rows:,} rows, and its target is {target:,} now"
    return found


def _is_cut(position: Position) -> bool:
    """Return whether a target that was raised since has thrown away some of what the operator gave at its end."""
    mark = TargetMark.of(position.marks)
    return mark.rows is not None and mark.cut > 0


def check_ends(nodes: Sequence[UnifiedNode], run: tuple[str, str], *, is_replay: bool = False) -> None:
    """Check that no row comes to an operator that has given, at the end of its source, what it had left.

    Args:
        nodes: those of a run, in reading order.
        run: the id of the run, and the folder of the runs.
        is_replay: whether dead letters are done again.

    Raises:
        StreamChangedError: when one would.
    """
    found = past_ends(nodes, is_replay=is_replay)
    if not found:
        return
    raise StreamChangedError(
        f"{_told(found, nodes)}. Nothing was changed. {rerun_advice(*run, is_replay=is_replay)}"
        f"{'' if is_replay else '. Or take away what was added to the input, if anything was'}"
    )


def _told(found: Mapping[str, str], nodes: Sequence[UnifiedNode]) -> str:
    names = {node.node_id: operator_name(node.operator) for node in nodes}
    return "; ".join(f"{node_id} ({names[node_id]}): {why}" for node_id, why in found.items())
