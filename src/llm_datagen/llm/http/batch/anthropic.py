"""Anthropic's Message Batches: a job is one request with all its rows, and one file of results.

The API keeps no key of a job: there is no metadata, and no name. The custom ids carry it, and only the results show
them, once the job has ended. Until then a job is told by its age and its number of rows alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.batch.base import (
    BatchAdapter,
    BatchHttp,
    BatchItem,
    BatchLimits,
    BatchResult,
    JobState,
    JobStatus,
    SoughtJob,
    checked_key,
    key_of,
)
from llm_datagen.llm.http.batch.lines import Lines
from llm_datagen.llm.http.batch.reading import (
    Seen,
    ask_to_cancel,
    count_of,
    failure_status,
    if_there,
    needed,
    oldest_first,
    page_of,
    text_of,
    unix_time,
    without_results,
)
from llm_datagen.streams.formats.json_text import dumps

_PATH = "/v1/messages/batches"
_STATES = {"in_progress": JobState.RUNNING, "canceling": JobState.CANCELLING, "ended": JobState.ENDED}
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_PAGE = 100


class AnthropicBatchAdapter(BatchAdapter):
    """Speaks Message Batches."""

    limits = BatchLimits(rows=100_000, bytes=250_000_000)
    is_keyed = False

    def line(self, item: BatchItem) -> bytes:
        """Return the row as one of the requests."""
        return dumps({"custom_id": item.custom_id, "params": item.body})

    async def submit(self, http: BatchHttp, items: Sequence[BatchItem], *, key: str, model: str) -> str:
        """Register the job; see `BatchAdapter.submit`. The custom ids of the rows must carry the key."""
        if not all(key_of(item.custom_id) == checked_key(key) for item in items):
            raise ValueError(f"the custom ids of the job {key} do not carry its key: make them by custom_id()")
        body = Lines(self.line, items, between=b",", head=b'{"requests":[', tail=b"]}")
        headers = {"Content-Type": "application/json"}
        return needed(await http.request("POST", _PATH, pieces=body, headers=headers), http, "id")

    async def find(self, http: BatchHttp, sought: SoughtJob) -> list[JobStatus]:
        """Return the ended jobs whose results carry the key, and those that run and may be it; see `BatchAdapter`."""
        found = []
        async for job in self._jobs(http, sought):
            status = _status(job)
            if status.total != sought.rows or status.job_id in sought.others:
                continue
            if status.state is JobState.ENDED or job.get("results_url"):
                key = await self._key(http, job)
                if key == sought.key:
                    found.append(_status(job, key))
            else:
                found.append(status)
        return oldest_first(found, sought)

    async def status(self, http: BatchHttp, job_id: str) -> JobStatus:
        """Return what a job is doing."""
        return _status(await self._read(http, job_id))

    async def results(self, http: BatchHttp, job_id: str) -> AsyncGenerator[BatchResult, None]:
        """Yield the lines of the results."""
        job = await self._read(http, job_id)
        status = _status(job)
        seen = Seen(http, status)
        if not job.get("results_url"):
            if status.succeeded:
                raise without_results(http, status, are_gone=bool(job.get("archived_at")))  # after 29 days
            return
        async for record in http.records(_results_path(http, job)):
            result = _result(record)
            if result is not None:
                seen.add(result)
                yield result
        seen.check()

    async def cancel(self, http: BatchHttp, job_id: str) -> None:
        """Ask for a job to be cancelled. No error when it has ended."""
        path = f"{_PATH}/{job_id}"
        await ask_to_cancel(http, f"{path}/cancel", path, lambda job: _status(job).state)

    async def delete(self, http: BatchHttp, job_id: str) -> None:
        """Delete a job that has ended, with its results."""
        await if_there(http, "DELETE", f"{_PATH}/{job_id}")

    async def withdraw(self, http: BatchHttp, key: str) -> None:
        """Do nothing: there are no files."""

    async def _read(self, http: BatchHttp, job_id: str) -> Mapping[str, Any]:
        response = await http.request("GET", f"{_PATH}/{job_id}")
        needed(response, http, "id")
        job: Mapping[str, Any] = response.data
        return job

    async def _jobs(self, http: BatchHttp, sought: SoughtJob) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the jobs that may be it by their age. The listing has the newest first."""
        after, seen = "", set()
        while after not in seen:
            seen.add(after)
            data = await page_of(http, f"{_PATH}?limit={_PAGE}" + (f"&after_id={after}" if after else ""), "data")
            page = data.get("data")
            for job in page or ():
                if not isinstance(job, Mapping):
                    continue
                time = unix_time(job.get("created_at")) or 0.0
                if not sought.may_be(time):
                    return
                yield job
            after = text_of(data, "last_id")
            if not page or not after or not data.get("has_more"):
                return

    async def _key(self, http: BatchHttp, job: Mapping[str, Any]) -> str:
        """Return the key of a job that has ended, by its first result; empty when there are none any more."""
        if not job.get("results_url"):
            return ""
        try:
            async with aclosing(http.records(_results_path(http, job))) as records:
                async for record in records:
                    return key_of(text_of(record, "custom_id"))
        except LLMRequestError as error:
            if error.status != 404:
                raise
        return ""


def _results_path(http: BatchHttp, job: Mapping[str, Any]) -> str:
    """Return where the results are: as the job says, unless that is behind another host than the user's."""
    url = text_of(job, "results_url")
    is_here = url.startswith(f"{http.base.origin()}/")
    return url if is_here else f"{_PATH}/{text_of(job, 'id')}/results"


def _status(job: Mapping[str, Any], key: str | None = None) -> JobStatus:
    counts = {name: count_of(job, "request_counts", name) for name in _COUNTS}
    word = text_of(job, "processing_status").lower()
    return JobStatus(
        job_id=text_of(job, "id"),
        state=_STATES.get(word, JobState.RUNNING),
        total=sum(counts.values()),
        succeeded=counts["succeeded"],
        failed=counts["errored"] + counts["canceled"] + counts["expired"],
        created_at=unix_time(job.get("created_at")) or 0.0,
        expires_at=unix_time(job.get("expires_at")),
        key=key,
        unknown="" if word in _STATES else word,
    )


def _result(record: Any) -> BatchResult | None:
    """Return what a line says; None when it names no row."""
    custom_id = text_of(record, "custom_id")
    result: Any = record.get("result") if custom_id else None
    match text_of(result, "type"):
        case "":
            return None
        case "succeeded":
            return BatchResult(custom_id=custom_id, kind="answered", status=200, body=result.get("message"))
        case "expired":
            return BatchResult(custom_id=custom_id, kind="expired")
        case "canceled":
            return BatchResult(custom_id=custom_id, kind="cancelled")
    error = result.get("error")
    inner = error.get("error") if isinstance(error, Mapping) and error.get("error") else error
    return BatchResult(custom_id=custom_id, kind="failed", status=failure_status(inner), body={"error": inner})
