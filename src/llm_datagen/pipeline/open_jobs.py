"""Jobs of a run at batch APIs that have not ended: what must not happen while there are some."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators.call import has_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchJob, BatchState, jobs_of
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.words import jobs_in_words


def check_asked_by_jobs(node_id: str, operator: Any, folder: RunFolder) -> None:
    """Check that the rows of a node that are in jobs are not asked again by plain calls.

    Args:
        node_id: the node.
        operator: its operator.
        folder: the run's.

    Raises:
        ConfigError: when the operator makes plain calls, and jobs of the node have not ended.
        DatagenError: when its job log cannot be read.
    """
    if has_jobs(operator):
        return
    jobs = [job for job in jobs_of(folder.files_path) if job.is_open and job.node_id == node_id]
    if jobs:
        raise ConfigError(
            f"{_counted(jobs)} of {node_id} at {jobs[0].endpoint} would be asked, and paid for, again: "
            "resume with batch_api until they are collected, or cancel them with the operator as it was: "
            f"{_cancel(folder)}"
        )


def check_nodes_are_there(node_ids: Collection[str], folder: RunFolder) -> None:
    """Check that no job is forgotten with its node.

    Args:
        node_ids: the nodes that there will be.
        folder: the run's.

    Raises:
        ConfigError: when jobs of another node have not ended, and were not cancelled.
        DatagenError: when a job log cannot be read.
    """
    for node_id, jobs in waiting_jobs(folder.files_path).items():
        if node_id not in node_ids:
            raise ConfigError(
                f"{node_id} is not in the code any more, and {_counted(jobs)} of it at {jobs[0].endpoint} would be "
                f"paid for, and forgotten: cancel them first, with the operators as they were: {_cancel(folder)}"
            )


def waiting_jobs(files: Path) -> dict[str, list[BatchJob]]:
    """Return the jobs of each node that have not ended, and were not cancelled.

    Args:
        files: where the operators of the run keep their files.

    Raises:
        DatagenError: when a job log cannot be read.
    """
    jobs: dict[str, list[BatchJob]] = {}
    for job in jobs_of(files):
        if job.is_open and job.state is not BatchState.CANCELLING:
            jobs.setdefault(job.node_id, []).append(job)
    return jobs


def rows_in_jobs(files: Path) -> dict[str, int]:
    """Return how many rows of each node wait in such jobs; see `waiting_jobs`."""
    return {node_id: sum(job.rows for job in jobs) for node_id, jobs in waiting_jobs(files).items()}


def check_none_is_left_behind(folder: RunFolder) -> None:
    """Check that no job is forgotten with the files of a run.

    Raises:
        ConfigError: when jobs have not ended, and were not cancelled.
        DatagenError: when a job log cannot be read.
    """
    jobs = [job for jobs in waiting_jobs(folder.files_path).values() for job in jobs]
    if jobs:
        raise ConfigError(
            f"run {folder.pipeline_id!r} cannot be overwritten: {_counted(jobs)} at {jobs[0].endpoint} would "
            f"be paid for, and forgotten: cancel them first: {_cancel(folder)}"
        )


def _cancel(folder: RunFolder) -> str:
    return command_line("jobs", folder.pipeline_id, folder.results_dir, options=["--cancel"])


def _counted(jobs: Sequence[BatchJob]) -> str:
    return jobs_in_words(len(jobs), sum(job.rows for job in jobs))
