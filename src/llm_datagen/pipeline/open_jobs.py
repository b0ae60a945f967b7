"""Jobs of a run at batch APIs that have not ended: what must not happen while there are some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators.call import has_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchJob, BatchState, jobs_of
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.words import jobs_in_words


def check_asked_by_jobs(node_id: str, operator: Any, files: Path) -> None:
    """Check that the rows of a node that are in jobs are not asked again by plain calls.

    Args:
        node_id: the node.
        operator: its operator.
        files: where the operators of the run keep their files.

    Raises:
        ConfigError: when the operator makes plain calls, and jobs of the node have not ended.
        DatagenError: when its job log cannot be read.
    """
    if has_jobs(operator):
        return
    jobs = [job for job in jobs_of(files) if job.is_open and job.node_id == node_id]
    if jobs:
        raise ConfigError(
            f"{_counted(jobs)} of {node_id} at {jobs[0].endpoint} would be asked, and paid for, again: "
            "resume with batch_api until they are collected, or cancel them with the operator as it was: llm-datagen "
            "jobs ID --cancel"
        )


def rows_in_jobs(files: Path) -> dict[str, int]:
    """Return how many rows of each node wait in jobs that have not ended.

    Args:
        files: where the operators of the run keep their files.

    Raises:
        DatagenError: when a job log cannot be read.
    """
    rows: Counter[str] = Counter()
    for job in jobs_of(files):
        if job.is_open and job.state is not BatchState.CANCELLING:
            rows[job.node_id] += job.rows
    return dict(rows)


def check_none_is_left_behind(folder: RunFolder) -> None:
    """Check that no job is forgotten with the files of a run.

    Raises:
        ConfigError: when jobs have not ended, and were not cancelled.
        DatagenError: when a job log cannot be read.
    """
    jobs = [job for job in jobs_of(folder.files_path) if job.is_open and job.state is not BatchState.CANCELLING]
    if jobs:
        cancel = command_line("jobs", folder.pipeline_id, folder.results_dir, options=["--cancel"])
        raise ConfigError(
            f"run {folder.pipeline_id!r} cannot be overwritten: {_counted(jobs)} at {jobs[0].endpoint} would "
            f"be paid for, and forgotten: cancel them first: {cancel}"
        )


def _counted(jobs: Sequence[BatchJob]) -> str:
    return jobs_in_words(len(jobs), sum(job.rows for job in jobs))
