"""What the adapters of batch APIs have in common: reading what a provider says, and requests that may find nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.batch.base import (
    ApiResponse,
    BatchHttp,
    BatchResult,
    CancelRefusedError,
    JobState,
    JobStatus,
    SoughtJob,
)
from llm_datagen.llm.http.error_meaning import OK, amounts_to

_GONE = (404, 410)
_NOT_IMPLEMENTED = 501
_BUSY = ("pending", "running", "notrunning", "processing")
_BROKEN = ("error", "failed", "deleted")
"""Words of a file that is not ready yet, and of one that never will be."""
_READY_WITHIN = 120.0
_LONGEST_PAUSE = 4.0
_MILLISECONDS = 1e11
"""A time above is one in milliseconds: as seconds, it is in the year 5138."""
_NOT_NOW = (400, 404, 409, 410, 422)
"""Statuses of a request to cancel that comes too late: the job has ended, or is gone."""


def text_of(data: Any, *names: str) -> str:
    """Return the text under these names; empty when there is none."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data if isinstance(data, str) else ""


def needed(response: ApiResponse, http: BatchHttp, *names: str) -> str:
    """Return the text under these names of a response.

    Raises:
        LLMRequestError: when there is none, so that something else answers there.
    """
    found = text_of(response.data, *names)
    if not found:
        raise LLMRequestError(
            f"{http.base.with_query(None)} does not speak this batch API: {'.'.join(names)!r} is missing in what it "
            "sent (check base_url and adapter)",
            status=OK,
            may_pass=True,
        )
    return found


def count_of(data: Any, *names: str) -> int:
    """Return the count under these names, also when it is sent as a text; 0 when there is none."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    if isinstance(data, str) and data.isascii() and data.isdecimal() and len(data) < 19:
        return int(data)
    return data if isinstance(data, int) and not isinstance(data, bool) and data > 0 else 0


def unix_time(data: Any) -> float | None:
    """Return a time, a number or as RFC 3339 has it, in seconds since 1970; None when there is none."""
    if isinstance(data, int | float) and not isinstance(data, bool):
        return (data / 1000 if data > _MILLISECONDS else float(data)) or None
    try:
        time = datetime.fromisoformat(data)
    except (TypeError, ValueError):
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def failure_status(error: Any) -> int:
    """Return the HTTP status that the error of a row amounts to: 500 when it does not say."""
    found = amounts_to(OK, {"error": error})
    return 500 if found == OK else found


def without_results(http: BatchHttp, job: JobStatus, *, are_gone: bool) -> LLMRequestError:
    """Return the error of a job that has succeeded, and of whose results there is no file.

    Args:
        http: calls the endpoint.
        job: the job, as it ended.
        are_gone: whether the provider says that there is none any more; else there may be one yet.
    """
    return LLMRequestError(
        f"the batch job {job.job_id} at {http.base.host} has no results, though it ended with answers",
        status=404 if are_gone else OK,
        may_pass=not are_gone,
        is_served=not are_gone,
    )


class Seen:
    """Counts the results of a job that have come, against what the provider counts.

    Args:
        http: calls the endpoint.
        job: the job, as it ended.
    """

    def __init__(self, http: BatchHttp, job: JobStatus) -> None:
        self._http = http
        self._job = job
        self._rows: set[str] = set()
        self._answered: set[str] = set()

    def add(self, result: BatchResult) -> None:
        """Count a result."""
        self._rows.add(result.custom_id)
        if result.kind == "answered":
            self._answered.add(result.custom_id)

    def check(self) -> None:
        """Check that no answer is missing, now that the results have ended.

        A server that counts failures among its answers is no reason, as long as each row has a result.

        Raises:
            LLMRequestError: when one is.
        """
        job, found = self._job, len(self._answered)
        if found < job.succeeded and len(self._rows) < (job.total or job.succeeded):
            raise LLMRequestError(
                f"the results of the batch job {job.job_id} at {self._http.base.host} end after {found} answers, and "
                f"the provider counts {job.succeeded}: they are fetched again",
                status=OK,
                may_pass=True,
                is_served=True,
            )


async def until_ready(http: BatchHttp, path: str, file: Any, state: Callable[[Any], str]) -> None:
    """Wait until a file that was sent can be used.

    Args:
        http: calls the endpoint.
        path: where the file is read.
        file: what the provider said of it last.
        state: returns the word for its state.

    Raises:
        LLMRequestError: when it cannot, or not soon.
    """
    pause, waited = 0.25, 0.0
    while (word := state(file).lower()) in _BUSY and waited < _READY_WITHIN:
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE)
        file = (await http.request("GET", path)).data
    if word in (*_BUSY, *_BROKEN):
        raise LLMRequestError(
            f"{http.base.host} cannot use the file that was sent for a batch job: its state is {http.safe(word)!r}",
            status=OK,
            may_pass=word in _BUSY,
        )


def oldest_first(found: Iterable[JobStatus], sought: SoughtJob) -> list[JobStatus]:
    """Return jobs of a listing that has the newest first, the other way round, without those that are known."""
    new = [job for job in found if job.job_id not in sought.others]
    new.reverse()  # times may be whole seconds: the order decides
    return sorted(new, key=lambda job: job.created_at)


async def page_of(http: BatchHttp, path: str, field: str, *, is_left_out: bool = False) -> Mapping[str, Any]:
    """Return the JSON of a page of the listing of jobs.

    What is no listing is never taken for an empty one: that would say that a job is not there, and its rows would be
    sent again.

    Args:
        http: calls the endpoint.
        path: of the page.
        field: what the jobs stand under.
        is_left_out: whether the API leaves the field out when there are none.

    Raises:
        LLMRequestError: also when there is no such listing, never with the status 404: that would say that a job is not
            there.
    """
    listing = f"{http.base.with_query(None)} has no listing {path.partition('?')[0]}, by which a job is found again"
    try:
        data = (await http.request("GET", path)).data
    except LLMRequestError as error:
        if error.status not in _GONE:
            raise
        raise LLMRequestError(
            f"{listing} when its acknowledgement is lost: use a server that has it, or leave batch_api out",
            status=_NOT_IMPLEMENTED,
            is_free=True,
        ) from error
    is_page = isinstance(data, Mapping) and not data.get("error") and (field in data or is_left_out)
    if not is_page or not isinstance(data.get(field) or [], list):
        raise LLMRequestError(
            f"{listing}: {field!r} is missing in what it sent (check base_url and adapter)", status=OK, may_pass=True
        )
    page: Mapping[str, Any] = data
    return page


async def if_there(http: BatchHttp, method: str, path: str) -> Any:
    """Send a request, and return the JSON that came back; None when what it is about is gone."""
    try:
        return (await http.request(method, path)).data
    except LLMRequestError as error:
        if error.status in _GONE:
            return None
        raise


async def ask_to_cancel(http: BatchHttp, path: str, job_path: str, state: Callable[[Any], JobState]) -> None:
    """Ask for a job to be cancelled. No error when that is asked already, or the job has ended, or is gone.

    Args:
        http: calls the endpoint.
        path: where that is asked.
        job_path: where the job is read.
        state: returns what a job is doing, by what was read.

    Raises:
        CancelRefusedError: when it goes on, as far as is known.
    """
    try:
        await http.request("POST", path)
    except LLMRequestError as error:
        if error.status not in _NOT_NOW:
            raise
        job = await if_there(http, "GET", job_path)
        if job is not None and state(job) in (JobState.WAITING, JobState.RUNNING):
            raise CancelRefusedError(str(error), status=409) from error  # never 404: the job is there


@contextmanager
def before_the_job() -> Iterator[None]:
    """A block that sends what a job will work on: what fails in it is free, as no job knows of it."""
    try:
        yield
    except LLMRequestError as error:
        error.is_free = True
        raise
