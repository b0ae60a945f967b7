"""A resume that was checked: what it would change, and whether all that it needs fits. Only reads (M22)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llm_datagen.config import OnChange, Verify, check_choice
from llm_datagen.errors import ConfigError
from llm_datagen.pipeline.blueprint import Blueprint, nodes_of
from llm_datagen.pipeline.change_refusal import edits_unread
from llm_datagen.pipeline.input_bounds import take_bounds
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.open_jobs import check_asked_by_jobs, check_nodes_are_there, rows_in_jobs
from llm_datagen.pipeline.operator_changes import AGAIN, Edit, compare
from llm_datagen.pipeline.past_ends import past_ends, past_targets
from llm_datagen.pipeline.path_checks import check_layout
from llm_datagen.pipeline.rerun import check_reset
from llm_datagen.pipeline.resume_checks import check_inputs, check_nodes, look_anew
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.stream_reset import Reset, reset_of
from llm_datagen.pipeline.topology import check_topology
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.moving_output import check_state_of
from llm_datagen.streams.inputs.computed import INPUT_BOUNDS
from llm_datagen.streams.position import STATE
from llm_datagen.streams.recovery import position_of

_OF_INPUT = ("input_fingerprint", INPUT_BOUNDS)
"""What is noted of the input of a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedResume:
    """What a resume would do.

    Attributes:
        edit: what differs between the run and the code.
        reset: what has to be done to the streams; None for nothing.
        nodes: the nodes as they will be.
        remaining: those of them that are kept, as they lie on the disk now.
        read_on: nodes that read more: those that have not ended, and those that are done again.
        notes: what of the code is used and is not in the run state yet, besides operators.
    """

    edit: Edit
    reset: Reset | None
    nodes: list[UnifiedNode]
    remaining: list[UnifiedNode]
    read_on: list[UnifiedNode]
    notes: list[StartNotice]


def check_resume(
    blueprint: Blueprint,
    folder: RunFolder,
    run_state: dict[str, Any],
    log_file: LogTarget,
    *,
    verify: Verify,
    on_change: OnChange,
    is_replay: bool,
) -> CheckedResume:
    """Check whether a run can go on with the code. Nothing is changed but `run_state`, which says what will be.

    Raises:
        DatagenError: when it cannot; see `BasePipeline.resume`.
    """
    check_choice("verify", verify, Verify)
    check_choice("on_change", on_change, OnChange)
    notes = take_bounds(blueprint.inputs(run_state), run_state)
    in_jobs = rows_in_jobs(folder.files_path)
    edit = compare(run_state, *blueprint.steps(run_state), is_replay=is_replay, in_jobs=in_jobs)
    if on_change in AGAIN:
        edit.past_ends.update(past_targets(run_state["nodes"], edit.entries))
        edit.past_ends.update(_past_ends(blueprint, run_state, edit))
    if on_change != "refuse" and not blueprint.has_operators and not edit.past_ends:
        raise ConfigError(edits_unread(folder, on_change, is_replay=is_replay))
    reset = edit.settle(on_change, folder.results_dir)
    nodes = nodes_of(blueprint, run_state)
    if edit.is_redrawn:
        check_topology(nodes)
    remaining = nodes if reset is None else _as_they_lie(blueprint, run_state, reset)
    check_layout([node.node_files for node in nodes], log_file, folder)
    if verify == "full":
        for node in remaining:
            node.output.verify()
            found = position_of(node.output)
            if found is not None and STATE in found[1].marks:
                check_state_of(node.output, found[1])
    check_nodes(remaining, run_state, folder.results_dir, is_replay=is_replay)
    finished = {node.node_id for node in remaining if node.is_finished()}
    for node in nodes:
        if node.node_id not in finished:
            check_asked_by_jobs(node.node_id, node.operator, folder)
    check_nodes_are_there({node.node_id for node in nodes}, folder)
    again: list[UnifiedNode] = []
    if reset is not None:
        again = [node for node in nodes if node.node_id in reset.again]
        look_anew(again, run_state)
        check_reset(reset, nodes, folder)
    read_on = [*(node for node in remaining if node.node_id not in finished), *again]
    return CheckedResume(edit=edit, reset=reset, nodes=nodes, remaining=remaining, read_on=read_on, notes=notes)


def _past_ends(blueprint: Blueprint, run_state: dict[str, Any], edit: Edit) -> dict[str, str]:
    """Return which of the nodes that an edit leaves cannot take the rows that would come, and why."""
    known = {entry["node_id"]: entry for entry in run_state["nodes"]}
    entries = [
        {**entry, **{key: value for key, value in known.get(entry["node_id"], {}).items() if key in _OF_INPUT}}
        for entry in edit.entries
    ]
    drawn = {**run_state, "nodes": entries}
    kept = _as_they_lie(blueprint, drawn, reset_of(run_state, entries, edit.done_again()))
    check_inputs(kept, drawn)
    return past_ends(kept, is_replay=edit.is_replay)


def _as_they_lie(blueprint: Blueprint, run_state: dict[str, Any], reset: Reset) -> list[UnifiedNode]:
    """Return the nodes that are kept, as they lie on the disk before `reset`."""
    places = {node_id: old.uri for node_id, old, _ in reset.moves}
    entries = [
        {**entry, "output_uri": places.get(entry["node_id"], entry["output_uri"])} for entry in run_state["nodes"]
    ]
    nodes = nodes_of(blueprint, {**run_state, "nodes": entries})
    return [node for node in nodes if node.node_id not in reset.again]
