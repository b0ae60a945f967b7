"""A job is given up: its rows go on without it. And what is said of a job in the log of the run."""

from __future__ import annotations

from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.batch.records import LOST
from llm_datagen.llm.batch.rows import Job
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.runs.batch_jobs import BatchState


async def drop(
    jobs: EndpointState,
    job: Job,
    why: str,
    outcome: str,
    error: BaseException | None = None,
    *,
    state: BatchState = BatchState.DROPPED,
) -> None:
    """Give a job up: its rows go on without it, or every call of the node fails of `error`.

    Args:
        jobs: those of the endpoint.
        job: the job.
        why: for people.
        outcome: of its rows, see `JobLog.dropped`.
        error: what the run fails of; None: it goes on.
        state: that the job has then.

    Raises:
        BatchError: when it cannot be written down.
    """
    node = jobs.node
    await node.write(node.job_log.dropped, job.stored.number, why, outcome, state)
    jobs.ended(job)
    rows, job.rows = job.rows, {}
    for row in rows.values():
        jobs.money.settle(row.call, node.request, Amount(), is_lost=outcome == LOST)
    if error is not None:
        node.fail(error)
    for row in rows.values():
        row.end(error)
    if outcome == LOST:
        log_of_job(jobs, job, f"it is given up: {why}; its rows count as paid for, and are sent again")


def log_of_job(jobs: EndpointState, job: Job, what: str, error: BaseException | None = None) -> None:
    """Warn of something of a job in the log of the run."""
    name = job.stored.job_id or job.stored.key
    because = "" if error is None else f" ({error})"
    jobs.node.log(f"job {name} at {jobs.label}: {what}{because}", level="warning")
