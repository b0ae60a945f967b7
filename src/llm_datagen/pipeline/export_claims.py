"""Exports that other runs of a results folder are still to make, as their run states say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.errors import DatagenError, PipelineExistsError
from llm_datagen.errors.advice import advice
from llm_datagen.runs import RunFolder
from llm_datagen.runs.export_entries import KEY
from llm_datagen.runs.exports import targets_of
from llm_datagen.runs.file_names import RUN_STATE
from llm_datagen.runs.status import Status
from llm_datagen.runs.store import run_ids
from llm_datagen.streams.outputs import Target
from llm_datagen.streams.outputs.side_by_side import why_not_both


def check_unclaimed_exports(run_state: Mapping[str, Any], folder: RunFolder) -> None:
    """Check that no other run is still to make an export that one of a new run would get in the way of.

    What runs that are completed have made is known by what lies there.

    Args:
        run_state: that of the new run.
        folder: its folder.

    Raises:
        PipelineExistsError: naming the other run, and both exports.
    """
    targets = targets_of(run_state)
    if not targets:
        return
    for pipeline_id, status, claimed in _claims(folder):
        for target in targets:
            if (why := why_not_both(claimed, target)) is not None:
                ways = advice(
                    f"let that run end first (resume({pipeline_id!r})), or say if_exists='overwrite'",
                    "let that run end first, or add --if-exists overwrite",
                )
                raise PipelineExistsError(
                    f"{target.path} would be an export, and the run {pipeline_id!r} ({status}) is to make "
                    f"{claimed.path}: {why}; give this one a folder, or a name, of its own, {ways} (that run's export "
                    "is then refused)"
                )


def _claims(folder: RunFolder) -> Iterator[tuple[str, str, Target]]:
    """Yield the exports that other runs are still to make, with the id and the status of each."""
    for pipeline_id in run_ids(folder.results_dir):
        if pipeline_id == folder.pipeline_id:
            continue
        other = RunFolder(folder.results_dir, pipeline_id)
        with contextlib.suppress(DatagenError, OSError):  # whoever takes up that run is told of it
            if f'"{KEY}"'.encode() not in (other.read(RUN_STATE) or b""):
                continue
            run_state = other.load()
            if run_state["status"] != Status.COMPLETED:
                for target in targets_of(run_state):
                    yield pipeline_id, run_state["status"], target
