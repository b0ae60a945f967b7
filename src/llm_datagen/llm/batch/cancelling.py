"""Cancels the jobs of a run that nobody runs now."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from llm_datagen.llm.batch.job_log import JobLog
from llm_datagen.llm.batch.records import LOST, UNKNOWN, UNSEEN, StoredJob
from llm_datagen.llm.endpoints import Endpoint
from llm_datagen.llm.errors import BatchError, LLMRequestError
from llm_datagen.llm.http.api_client import ApiClient
from llm_datagen.llm.http.batch.base import BatchAdapter, CancelRefusedError, JobState
from llm_datagen.runs.batch_jobs import BatchState, job_log_path
from llm_datagen.runs.sent_jobs import list_path
from llm_datagen.runs.words import rows_in_words


async def cancel_jobs(
    endpoints: Sequence[Endpoint],
    files: Path,
    node_id: str,
    *,
    timeout: float,
    late_s: float,
    tell: Callable[[str], None],
) -> list[StoredJob]:
    """Ask the providers to cancel the open jobs of a node; return those that were cancelled.

    What they have answered until then is paid for, and a resume collects it. A job that its provider does not know is
    given up: its rows count as paid for. One whose submit was never acknowledged, and that is not there, is given up
    too, and its rows are free. The run must be locked.

    Args:
        endpoints: those of the node's operator.
        files: where the operators of the run keep their files.
        node_id: the node.
        timeout: seconds that a request may take to be answered.
        late_s: see `Batch`.
        tell: is told of jobs that were not cancelled, and why.

    Raises:
        BatchError: when the job log cannot be used.
        ConfigError: when a key cannot be had.
        LLMRequestError: when a provider does not answer, or refuses.
    """
    path = job_log_path(files, node_id)
    if not (path.exists() or list_path(path).exists()):
        return []
    job_log = JobLog(path)
    job_log.open()
    cancelled = []
    try:
        for job in job_log.unfinished():
            if job.state is BatchState.COLLECTED:
                continue
            endpoint = next((each for each in endpoints if each.address.label == job.endpoint), None)
            if endpoint is None:
                raise BatchError(f"job {job.job_id or job.key} is at {job.endpoint}, which the operator does not ask")
            adapter = endpoint.address.adapter.batch()
            assert adapter is not None
            http = ApiClient(endpoint.address, endpoint.key(), timeout)
            await http.open()
            try:
                if await _find(job_log, job, adapter, http, late_s, tell) and await _cancel(
                    job_log, job, adapter, http, tell
                ):
                    cancelled.append(job)
            finally:
                await http.close()
    finally:
        job_log.close()
    return cancelled


async def _find(
    job_log: JobLog, job: StoredJob, adapter: BatchAdapter, http: ApiClient, late_s: float, tell: Callable[[str], None]
) -> bool:
    """Look for a job whose submit was not acknowledged, and return whether it is there; give one up that never came."""
    if job.job_id is not None:
        return True
    sought = job.sought(job_log.ids(job.endpoint, job.number))
    found = await adapter.find(http, sought)
    if not any(each.key == job.key for each in found):
        await adapter.withdraw(http, job.key)  # one that comes later has nothing to work on, where there are files
        found = await adapter.find(http, sought)
    mine = next((each for each in found if each.key == job.key), None)
    if mine is not None:
        job.job_id = mine.job_id
        job_log.submitted(job.number, mine.job_id, mine.expires_at)
        return True
    name = f"job {job.key} at {job.endpoint}, with {rows_in_words(job.rows)},"
    if found:
        ids = ", ".join(each.job_id for each in found)
        tell(
            f"{name} was not acknowledged, and may be {ids}, which has as many rows: that is known when it has ended. "
            "Cancel it at the provider if it is of this run, or resume"
        )
    elif not adapter.is_keyed and time.time() - job.made_at < late_s:
        tell(f"{name} was not acknowledged, and may come yet: cancel once more in {late_s:g} s, or resume")
    else:
        job_log.dropped(job.number, UNSEEN)
        tell(f"{name} never arrived, and is given up: it costs nothing")
    return False


async def _cancel(
    job_log: JobLog, job: StoredJob, adapter: BatchAdapter, http: ApiClient, tell: Callable[[str], None]
) -> bool:
    """Cancel a job that the provider has, or give it up; return False when it had ended, or goes on."""
    job_id = job.job_id or ""
    try:
        status = await adapter.status(http, job_id)
    except LLMRequestError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        job_log.dropped(job.number, UNKNOWN, LOST)
        return True
    is_cancelled, state = status.state is not JobState.ENDED, BatchState.CANCELLING
    if is_cancelled:
        try:
            await adapter.cancel(http, job_id)
        except CancelRefusedError as error:
            is_cancelled = False
            if not status.unknown:  # it goes on
                state = BatchState.RUNNING
            tell(f"job {job_id} at {job.endpoint} cannot be cancelled: {error}; a resume takes what it has answered")
    job_log.looked(job.number, state, status.succeeded, status.failed, status.expires_at)
    return is_cancelled
