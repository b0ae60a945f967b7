"""What lies where a new run is to write: whose it is, and what of it may be deleted (M4)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import PipelineExistsError
from llm_datagen.errors.advice import advice
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.open_jobs import check_none_is_left_behind
from llm_datagen.pipeline.output_owners import owner_of
from llm_datagen.runs import RunFolder
from llm_datagen.runs.typed_commands import command_line, id_option
from llm_datagen.streams import Stream, StreamFactory


def why_taken(folder: RunFolder, results_dir: str, how: str) -> str:
    """Return why a new run cannot have the id of a run that is there already; `how` is how that one stands."""
    return f"run {folder.pipeline_id!r} is there already in {results_dir} ({how}); " + advice(
        "continue it with if_exists='resume' (or resume()), start afresh with if_exists='overwrite' (its outputs are "
        "deleted), or choose another pipeline_id",
        f"continue it with {command_line('resume', folder.pipeline_id, folder.results_dir)}, start afresh with "
        "--if-exists overwrite (its outputs are deleted), or choose another --id",
    )


def why_refused(node: UnifiedNode, folder: RunFolder) -> str:
    """Return why a new run of `folder` does not write where `node` would write: something is there already."""
    owner = owner_of(node.output.place, folder)
    if owner is None or owner == folder.pipeline_id:
        ways = advice(
            "give create() its id and if_exists='resume'; else choose another output, or say if_exists='overwrite'",
            f"type {command_line('resume', 'ID', folder.results_dir)}; else choose another output, or add --if-exists "
            "overwrite",
        )
        return (
            f"the output of {node.node_id}, {node.output.path}, is there already, and was not made by a "
            f"run of the id {folder.pipeline_id!r}; to continue an earlier run, {ways} (it is deleted)"
        )
    ways = advice(
        f"give create() its id ({owner!r}) and if_exists='resume' or 'overwrite'",
        f"type {command_line('resume', owner, folder.results_dir)}, or add {shlex.join(id_option(owner))} --if-exists "
        "overwrite",
    )
    return (
        f"the output of {node.node_id}, {node.output.path}, is there already: the run {owner!r} made it; to continue "
        f"that one, or to start it afresh, {ways}; else choose another output"
    )


def delete_outputs(entries: Sequence[Mapping[str, Any]], nodes: Sequence[UnifiedNode], folder: RunFolder) -> None:
    """Delete what the nodes of a run have written, but never what the new run is to read, or what another run made.

    Raises:
        PipelineExistsError, StreamBusyError: as `check_deletable`.
        ConfigError: when jobs at a batch API would be forgotten.
    """
    check_none_is_left_behind(folder)
    found = [StreamFactory.create(entry["output_uri"]) for entry in entries]
    outputs = {output.place: output for output in found}
    check_deletable(list(outputs.values()), nodes, folder)
    folder.forget()  # first: a run state must not tell of outputs that are gone
    for output in outputs.values():
        output.delete()


def check_deletable(outputs: Sequence[Stream], nodes: Sequence[UnifiedNode], folder: RunFolder) -> None:
    """Check that the run of `folder`, whose nodes will be these, may delete some streams. Only reads.

    Raises:
        PipelineExistsError: when an output that is to be deleted is an input of the new run, or another run's.
        StreamBusyError: when an output is being written by another run.
    """
    written = {node.output.place for node in nodes}
    inputs = {place: node for node in nodes for place in node.input.places if place not in written}
    for output in outputs:
        for path in output.files:
            node = inputs.get(output.place_of(path))
            if node is not None:
                raise PipelineExistsError(
                    f"{path} was written by the run that is to be overwritten, and is the input of {node.node_id}: it "
                    "is not deleted; choose another pipeline_id"
                )
        output.check_free()
        owner = owner_of(output.place, folder) if output.exists() else None
        if owner is not None and owner != folder.pipeline_id:
            ways = advice(f"give create() its id ({owner!r})", f"give {shlex.join(id_option(owner))}")
            raise PipelineExistsError(
                f"{output.path} was made by the run {owner!r}, and if_exists='overwrite' of {folder.pipeline_id!r} "
                f"deletes nothing of another run; to start that one afresh, {ways}; else choose another output, or "
                "delete this one yourself"
            )
