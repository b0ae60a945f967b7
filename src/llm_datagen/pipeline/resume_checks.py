"""Whether a run may go on, as its run state and its files are now. What compares only reads (M22)."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.config import (
    FailurePolicy,
    OnError,
    check_count,
    check_rate,
)
from llm_datagen.errors import (
    ConfigError,
    DatagenError,
    OperatorMismatchError,
    StreamMissingError,
)
from llm_datagen.operators import operator_name
from llm_datagen.pipeline.checked_ids import CheckedIds
from llm_datagen.pipeline.early_ends import unneeded_ids
from llm_datagen.pipeline.input_bounds import check_specs
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.past_ends import check_ends
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.stream_checks import counts_of
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.state_file import change_settings
from llm_datagen.runs.status import Status, report_of_entry
from llm_datagen.streams import FileStream
from llm_datagen.streams.inputs.file_changes import shown_names
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.source import size_of, streams_of


def check_operators(run_state: dict[str, Any], operators: list[Any]) -> None:
    """Check that the code has the operators of the run state, in their order.

    Raises:
        OperatorMismatchError: when it has others.
    """
    names = [operator_name(operator) for operator in operators]
    known = [node["operator"] for node in run_state["nodes"]]
    if names != known:
        raise OperatorMismatchError(
            f"run {run_state['pipeline_id']!r} was made with the operators {known}, and the code has {names}; undo "
            "that, or resume it again: resume() says what changed, and what can be done (an operator that was renamed "
            "keeps its identity with name='the old name')"
        )


def change_policy(run_state: dict[str, Any], on_error: OnError | None, max_errors: int | float | None) -> None:
    """Write into a run state what becomes of rows that fail from now on.

    Raises:
        ConfigError: on a wrong value, or when only a limit is given, and no node goes on after a row that fails.
    """
    if on_error is None and max_errors is None:
        return
    FailurePolicy(on_error=on_error or "fail", max_errors=max_errors)
    changed = [entry for entry in run_state["nodes"] if on_error is not None or entry["on_error"] != "fail"]
    if not changed:
        raise ConfigError(
            f"max_errors={max_errors} changes nothing by itself: in this run, the first row that fails ends it "
            "(on_error='fail'); say on_error='skip' or 'dead_letter', too"
        )
    for entry in changed:
        change_settings(entry, {"on_error": on_error or entry["on_error"], "max_errors": max_errors})


def change_limits(run_state: dict[str, Any], parallel_size: int | None, rate: float | None) -> None:
    """Write into a run state how many calls each node makes from now on, as `Reconfigure` does while a run goes on.

    Raises:
        ConfigError: on a wrong value.
    """
    changed: dict[str, Any] = {}
    if parallel_size is not None:
        changed["parallel_size"] = check_count("parallel_size", parallel_size)
    if rate is not None:
        changed["rate"] = check_rate("rate", rate) if rate else None
    for entry in run_state["nodes"]:
        if not is_id_stripper(entry):
            change_settings(entry, changed)


def check_nodes(
    nodes: Sequence[UnifiedNode], run_state: dict[str, Any], results_dir: str, *, is_replay: bool = False
) -> None:
    """Check that nodes of a run state can go on, before anything is changed (M22).

    Only `run_state` notes which inputs were looked through.
    """
    checked = CheckedIds(run_state)
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    left_out = unneeded_ids(nodes)
    check_inputs(nodes, run_state)
    for node in nodes:
        _check_output_is_there(node, entries[node.node_id])
    check_ends(nodes, (run_state["pipeline_id"], results_dir), is_replay=is_replay)
    for node in nodes:
        if node.node_id not in left_out:
            node.check(checked)


def check_inputs(nodes: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> None:
    """Check that what nodes go on to read is what it was.

    Raises:
        StreamChangedError: when it is not.
    """
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    left_out = unneeded_ids(nodes)
    for node in nodes:
        known = entries[node.node_id].get("input_fingerprint")
        if node.node_id not in left_out and not node.is_finished():
            node.input.check_fingerprint(known, node.read_before(), follow=node.follow_input)
        else:
            check_specs(node, known)


def edited_since(nodes: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> list[StartNotice]:
    """Return what is to be told of inputs that were edited since all of them was done: nobody reads them again."""
    notes = []
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    for node in nodes:
        known = entries[node.node_id].get("input_fingerprint")
        if known is None or not node.is_finished() or size_of(node.input) is None:  # it may be gone
            continue
        with contextlib.suppress(DatagenError, OSError):
            changed = node.input.what_changed(known, node.read_before(), follow=node.follow_input)
            if changed:
                text = (
                    f"{'; '.join(changed)}; rows that are done stay as they are. To do them anew, start afresh: "
                    "overwrite the run"
                )
                notes.append(StartNotice(node.node_id, text))
    return notes


def look_anew(nodes: Sequence[UnifiedNode], run_state: Mapping[str, Any]) -> None:
    """Have nodes that do all rows again look for their input as it is now; files are read in the order of the run."""
    entries = {entry["node_id"]: entry for entry in run_state["nodes"]}
    for node in nodes:
        known = entries[node.node_id].get("input_fingerprint")
        node.input.check_fingerprint(known, (), follow=node.follow_input)


def files_since(nodes: Sequence[UnifiedNode]) -> list[StartNotice]:
    """Return what is to be told of files of folders and patterns: those that have come, and what became of others.

    `check_nodes`, or `look_anew`, comes first: it looks for them.
    """
    notes = []
    for node in nodes:
        for stream in streams_of(node.input):
            if not isinstance(stream, FileSet):
                continue
            told = list(stream.noted.changes.all())
            if stream.noted.changes.lost:
                told[0] += ": files are read as they are now, so rows behind them may get other ids"
            if stream.noted.added:
                told.append(f"{shown_names(stream.noted.added)} came since the run began, and are read last")
            notes += [StartNotice(node.node_id, f"{stream.shown}: {text}") for text in told]
    return notes


def _check_output_is_there(node: UnifiedNode, entry: Mapping[str, Any]) -> None:
    """Check that what the run state says was written has not gone, with all that accounted for it (M22)."""
    rows = entry.get("rows_in", 0)
    if rows and isinstance(node.output, FileStream) and not node.output.exists():
        raise StreamMissingError(
            f"{node.output.path} is gone, with its commit log and its seal, though {rows} source rows of "
            f"{node.node_id} were done; restore it, or start afresh with if_exists='overwrite'"
        )


def count_again(run_state: dict[str, Any], nodes: Sequence[UnifiedNode]) -> None:
    """Write into a run state what the streams say of each node: it may have been saved long before a kill."""
    left_out = unneeded_ids(nodes)
    for node, entry in zip(nodes, run_state["nodes"], strict=True):
        before = report_of_entry(entry)
        now = replace(before, **counts_of(node.output, is_finished=node.is_finished()))
        if node.node_id in left_out:
            now = replace(now, status=Status.UNNEEDED)
        entry.update(now.as_dict())


def is_untouched(run_state: dict[str, Any], nodes: list[UnifiedNode]) -> bool:
    """Return whether a run was created, and nothing of it has begun."""
    return run_state["status"] == Status.PENDING and not any(node.output.exists() for node in nodes)
