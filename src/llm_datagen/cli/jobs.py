"""The jobs of a run at batch APIs of providers: shown, or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from llm_datagen.cli.output import write, write_json
from llm_datagen.cli.resume import StoppedRun
from llm_datagen.cli.sharded import NO_SHARDS
from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import escape_line
from llm_datagen.operators import operator_name
from llm_datagen.operators.call import that_settle_jobs
from llm_datagen.pipeline import left_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchJob, BatchState, in_words, jobs_of
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.versions import find_run
from llm_datagen.runs.words import jobs_in_words, number, rows_in_words
from llm_datagen.shards.run_view import folders_of


def show_jobs(pipeline_id: str, results_dir: str, *, as_json: bool) -> None:
    """Show the jobs of a run, the oldest first.

    Args:
        pipeline_id: the run's id.
        results_dir: the folder of the runs.
        as_json: whether to print JSON.

    Raises:
        DatagenError: when there is no such run, or a job log cannot be read.
    """
    folder = find_run(results_dir, pipeline_id)
    jobs = jobs_of(*(each.files_path for each in folders_of(folder, folder.load())))
    if as_json:
        write_json([job.as_dict() for job in jobs])
        return
    write(f"run {pipeline_id}: {in_words(jobs) or 'no jobs at batch APIs'}")
    for line in _lines(jobs):
        write(f"  {line}")
    if any(job.is_open for job in jobs) and not folder.lock.is_held():
        write(f"  collect  {command_line('resume', pipeline_id, folder.results_dir)}")


def _lines(jobs: Sequence[BatchJob]) -> Iterator[str]:
    for job in jobs:
        counts = f"{job.rows:,} rows, {job.succeeded:,} answered" + (f", {job.failed:,} not" if job.failed else "")
        expires = f", expires {_time(job.expires_at)}" if job.is_open and job.expires_at else ""
        why = f" ({job.why})" if job.why else ""
        yield escape_line(
            f"{job.node_id}  {job.job_id or job.key}  {job.state}  {counts}, made {_time(job.made_at)}{expires}, "
            f"{job.model} at {job.endpoint}{why}"
        )


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def cancel_run_jobs(pipeline_id: str, name: str | None, results_dir: str | None) -> None:
    """Cancel the open jobs of a run that nobody runs now, at the providers.

    Args:
        pipeline_id: the run's id.
        name: where its operators come from; None for the same as before.
        results_dir: the folder of the runs; None for the pipeline's, or the environment's.

    Raises:
        ConfigError: when somebody runs it, or it is not known where its operators come from.
        DatagenError: when a provider does not answer.
    """
    run = StoppedRun(pipeline_id, name, results_dir, "jobs")
    folder = run.folder
    if is_sharded(run.run_state):
        raise ConfigError(f"run {pipeline_id!r} is in shards: resume it, then cancel it; that cancels its jobs, too")
    if folder.lock.is_held():
        cancel = command_line("cancel", pipeline_id, folder.results_dir)
        raise ConfigError(f"run {pipeline_id!r} is running: cancel it, which cancels its jobs, too: {cancel}")
    operators = run.target(NO_SHARDS).pipeline.operators_of(run.run_state)
    _check_same(folder, run.run_state["nodes"], operators)
    folder.lock.acquire()
    try:
        asyncio.run(_cancel(folder, run.run_state["nodes"], operators))
    finally:
        folder.lock.release()


def _check_same(folder: RunFolder, entries: Sequence[dict[str, object]], operators: Sequence[object]) -> None:
    """Check that the code has the steps that the run was made with: each job is cancelled as its operator says."""
    known, now = [entry["operator"] for entry in entries], [operator_name(operator) for operator in operators]
    if known != now:
        typed = command_line(
            "jobs", folder.pipeline_id, folder.results_dir, arguments=["FILE.yaml"], options=["--cancel"]
        )
        raise ConfigError(
            f"run {folder.pipeline_id!r} was made with the operators {known}, and the code has {now}: name a file, or "
            f"module:name, with the operators as they were: {typed}"
        )


async def _cancel(folder: RunFolder, entries: Sequence[dict[str, object]], operators: Sequence[object]) -> None:
    """Ask for all open jobs to be cancelled, then wait for their end, and say how they stand."""
    files = folder.files_path
    asked = [
        (str(entry["node_id"]), each)
        for entry, operator in zip(entries, operators, strict=True)
        for each in that_settle_jobs(operator)
    ]
    cancelled = sum([await each.cancel_jobs(files, node_id, _tell) for node_id, each in asked])
    write(f"run {folder.pipeline_id}: cancelled {jobs_in_words(cancelled)}")
    before = {job.key: job for job in jobs_of(files)}
    ending = [job for job in before.values() if job.state is BatchState.CANCELLING]
    if ending:
        write(f"  waiting for the end of {jobs_in_words(len(ending))}, to collect what was answered")
    for node_id in {job.node_id for job in ending}:
        for each in (each for asking, each in asked if asking == node_id):
            await each.settle_jobs(
                files,
                node_id,
                pipeline_id=folder.pipeline_id,
                results_dir=folder.results_dir,
                seconds=left_jobs.SETTLE_SECONDS,
                log=_ignore,
                stopped=lambda: not any(job.state is BatchState.CANCELLING for job in jobs_of(files)),
            )
    _tell_settled(folder, [job for job in jobs_of(files) if job.key in {each.key for each in ending}])


def _tell_settled(folder: RunFolder, jobs: Sequence[BatchJob]) -> None:
    """Say what became of jobs that were cancelled."""
    ended, left = [job for job in jobs if not job.is_open], [job for job in jobs if job.is_open]
    if ended:
        answered = sum(job.succeeded for job in ended)
        taken = "; a resume with batch_api takes these answers, and asks for the others" if answered else ""
        rows = rows_in_words(sum(job.rows for job in ended))
        write(f"  collected {jobs_in_words(len(ended))}: {number(answered)} of {rows} were answered{taken}")
    if left:
        again = command_line("jobs", folder.pipeline_id, folder.results_dir, options=["--cancel"])
        write(f"  {jobs_in_words(len(left))} not ended yet: a resume collects what was answered, or later: {again}")


def _tell(text: str) -> None:
    write(escape_line(text))


def _ignore(message: str, **fields: object) -> None:
    """What is said of a job is seen by its state."""
