"""The family of a row: its relatives in every stream of a run, each with the model calls behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_datagen.runs.browse.calls import calls_of
from llm_datagen.runs.graph import StreamNode, stream_nodes_of
from llm_datagen.runs.trace import Trace, trace
from llm_datagen.runs.versions import version_at, version_of
from llm_datagen.streams.ids import Id, batch_ends, parent_of


@dataclass(frozen=True, slots=True)
class Member:
    """A relative of a row, or the row itself, at one place.

    Attributes:
        trace: what it is there.
        calls: the model calls that its node made for it: about the row of the source that it comes from. Each has
            ``at``, ``model``, ``provider``, ``endpoint``, ``messages`` (all that was said before the last answer),
            ``answer``, ``tokens_in``, ``tokens_out``, ``cost`` (US dollars; None when unknown), ``attempts``,
            ``repairs``, ``cached``, ``seconds``; and, where there is any, ``error``, ``repaired_answers``,
            ``repairs_at`` (which of the messages ask for a repair), ``tool_calls`` (how many were executed),
            ``extras``, ``sample``, ``version`` (the earlier version of the run that has made it).
    """

    trace: Trace
    calls: list[dict[str, Any]] = field(default_factory=list, repr=False)


def family(run_state: dict[str, Any], files: Path, row_id: Id) -> list[Member]:
    """Return the relatives of a row in the order of the nodes, each with the calls behind it; none of an unknown row.

    Runs that an older llm-datagen made, and operators with ``keep_calls=False``, have no calls.

    Args:
        run_state: the run state; of a run in shards, that of a shard.
        files: where the operators of the run keep their files; see `RunFolder.files_path`.
        row_id: an id from any of its streams.

    Raises:
        StreamError: when a stream cannot be read.
    """
    return with_calls(run_state, files, list(trace(run_state, row_id)))


def with_calls(run_state: dict[str, Any], files: Path, found: Iterable[Trace]) -> list[Member]:
    """Return what a trace has found, each with the calls behind it; see `family`."""
    traces = list(found)
    nodes = {node.where: node for node in stream_nodes_of(run_state) if not node.inputs}
    asked = {each.where: set[Id]() for each in traces if each.where in nodes and nodes[each.where].source is not None}
    for each in traces:
        if each.where in asked:
            asked[each.where].update(_asked_about(nodes[each.where], each))
    calls: Mapping[str, Mapping[Id, list[dict[str, Any]]]] = {
        node_id: calls_of(files, node_id, row_ids) for node_id, row_ids in asked.items()
    }
    return [
        Member(each, [_with_version(call, run_state) for call in _calls_for(each, nodes, calls)]) for each in traces
    ]


def _with_version(call: dict[str, Any], run_state: dict[str, Any]) -> dict[str, Any]:
    version = version_at(run_state, call["at"])
    return call if version == version_of(run_state) else {**call, "version": version}


def _calls_for(
    found: Trace, nodes: Mapping[str, StreamNode], calls: Mapping[str, Mapping[Id, list[dict[str, Any]]]]
) -> Iterator[dict[str, Any]]:
    of_node = calls.get(found.where, {})
    seen: list[int] = []
    for row_id in _asked_about(nodes[found.where], found) if of_node else ():
        for call in of_node.get(row_id, ()):
            if id(call) not in seen:  # a call about a batch is known by each row of it
                seen.append(id(call))
                yield call


def _asked_about(node: StreamNode, found: Trace) -> list[Id]:
    """Return ids that the source row may have which a row was made of; of what has no results, its own."""
    if found.state != "row":
        return [found.row_id]
    if node.is_numeric:
        return [node.made(found.row_id)]
    parent = parent_of(found.row_id)
    if parent is None:
        return [found.row_id]
    return [found.row_id, parent, *(end for ends in batch_ends(parent) for end in ends)]
