"""OpenAI's Batch API, which other providers and servers speak as well: a file of requests, and a job that works on it.

``POST /files``, ``POST /batches``, and files with answers and with errors at the end. The key of a job stands in its
metadata, which listings show, and in the name of its file.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

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
)
from llm_datagen.llm.http.batch.lines import form
from llm_datagen.llm.http.batch.reading import (
    Seen,
    ask_to_cancel,
    before_the_job,
    count_of,
    failure_status,
    if_there,
    needed,
    oldest_first,
    page_of,
    text_of,
    unix_time,
    until_ready,
)
from llm_datagen.streams.formats.json_text import dumps

METADATA = "llm_datagen_key"
"""The name of the key in the metadata of a job."""
_STATES = {
    "validating": JobState.WAITING,
    "in_progress": JobState.RUNNING,
    "finalizing": JobState.RUNNING,
    "cancelling": JobState.CANCELLING,
    "completed": JobState.ENDED,
    "failed": JobState.ENDED,
    "expired": JobState.ENDED,
    "cancelled": JobState.ENDED,
}
_NO_ANSWER = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
_LATER = ("limit", "overload", "unavailable", "internal", "server_error", "quota")
"""Parts of codes of a job that failed, and whose rows may succeed later."""
_PAGE = 100


class OpenAIBatchAdapter(BatchAdapter):
    """Speaks OpenAI's Batch API.

    Args:
        url: which API the requests of a job are for, such as ``/v1/responses``.
        prefix: stands before the paths.
    """

    limits = BatchLimits(rows=50_000, bytes=200_000_000)

    def __init__(self, url: str = "/v1/chat/completions", prefix: str = "") -> None:
        self._url = url
        self._prefix = prefix

    def line(self, item: BatchItem) -> bytes:
        """Return the row as a line of the file."""
        return dumps({"custom_id": item.custom_id, "method": "POST", "url": self._url, "body": item.body})

    async def submit(self, http: BatchHttp, items: Sequence[BatchItem], *, key: str, model: str) -> str:
        """Send the file, then register the job; see `BatchAdapter.submit`."""
        with before_the_job():
            file_id = await self._upload(http, items, f"{checked_key(key)}.jsonl")
        job = {"input_file_id": file_id, "endpoint": self._url, "completion_window": "24h", "metadata": {METADATA: key}}
        return needed(await http.request("POST", f"{self._prefix}/batches", data=job), http, "id")

    async def find(self, http: BatchHttp, sought: SoughtJob) -> list[JobStatus]:
        """Return the jobs with the key in their metadata, or else in the name of their file."""
        jobs = [job async for job in self._jobs(http, sought)]
        found = [job for job in jobs if text_of(job, "metadata", METADATA) == sought.key]
        if not found and any(not job.get("metadata") for job in jobs):
            files = [each["id"] async for each in self._files(http, sought.key)]
            found = [job for job in jobs if job.get("input_file_id") in files]
        return oldest_first((self._status(job, sought.key) for job in found), sought)

    async def status(self, http: BatchHttp, job_id: str) -> JobStatus:
        """Return what a job is doing."""
        return self._status(await self._read(http, job_id))

    async def results(self, http: BatchHttp, job_id: str) -> AsyncGenerator[BatchResult, None]:
        """Yield the lines of the file with answers, then of that with errors."""
        job = await self._read(http, job_id)
        seen = Seen(http, self._status(job))
        for file_id in filter(None, self._result_files(job)):
            async for record in http.records(f"{self._prefix}/files/{file_id}/content"):
                result = _result(record)
                if result is not None:
                    seen.add(result)
                    yield result
        seen.check()

    async def cancel(self, http: BatchHttp, job_id: str) -> None:
        """Ask for a job to be cancelled. No error when it has ended."""
        path = self._job(job_id)
        await ask_to_cancel(http, f"{path}/cancel", path, lambda job: self._status(job).state)

    async def delete(self, http: BatchHttp, job_id: str) -> None:
        """Delete the files of a job. The job stays in the listing: the API cannot delete it."""
        job = await if_there(http, "GET", self._job(job_id))
        if job is not None:
            for file_id in filter(None, (*self._input_files(job), *self._result_files(job))):
                await if_there(http, "DELETE", f"{self._prefix}/files/{file_id}")

    async def withdraw(self, http: BatchHttp, key: str) -> None:
        """Delete the files that have the key in their name."""
        for each in [each async for each in self._files(http, key)]:
            await if_there(http, "DELETE", f"{self._prefix}/files/{each['id']}")

    async def _upload(self, http: BatchHttp, items: Sequence[BatchItem], name: str) -> str:
        pieces, kind = form(self.line, items, name, {"purpose": "batch"})
        path, headers = f"{self._prefix}/files", {"Content-Type": kind}
        sent = await http.request("POST", path, pieces=pieces, headers=headers)
        file_id = needed(sent, http, "id")
        await until_ready(http, f"{path}/{file_id}", sent.data, lambda file: text_of(file, "status"))
        return file_id

    async def _read(self, http: BatchHttp, job_id: str) -> Mapping[str, Any]:
        response = await http.request("GET", self._job(job_id))
        needed(response, http, "id")
        job: Mapping[str, Any] = response.data
        return job

    async def _jobs(self, http: BatchHttp, sought: SoughtJob) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the jobs that may be it by their age."""
        async for page in self._pages(
            lambda path: page_of(http, path, "data"), f"{self._prefix}/batches?limit={_PAGE}"
        ):
            times = [unix_time(job.get("created_at")) or 0.0 for job in page]
            for job, time in zip(page, times, strict=True):
                if sought.may_be(time):
                    yield job
            is_newest_first = times[0] > times[-1]
            if is_newest_first and not any(map(sought.may_be, times)):
                return  # those behind are older still

    async def _files(self, http: BatchHttp, key: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the files that were uploaded with a key; none when the server does not list any."""
        listing = f"{self._prefix}/files?purpose=batch&limit=1000"
        async for page in self._pages(lambda path: if_there(http, "GET", path), listing):
            for each in page:
                if each.get("filename") == f"{key}.jsonl" and text_of(each, "id"):
                    yield each

    async def _pages(
        self, read: Callable[[str], Awaitable[Any]], path: str
    ) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        """Yield what a listing has, page by page. The cursor is the last one's id."""
        after, seen = "", set()
        while after not in seen:
            seen.add(after)
            data = await read(path + (f"&after={after}" if after else ""))
            page = [each for each in _list(data, "data") if isinstance(each, Mapping)]
            if page:
                yield page
            after = text_of(page[-1], "id") if page else ""
            if not after or not data.get("has_more"):
                return

    def _job(self, job_id: str) -> str:
        return f"{self._prefix}/batches/{job_id}"

    def _input_files(self, job: Any) -> tuple[str, ...]:
        return (text_of(job, "input_file_id"),)

    def _result_files(self, job: Any) -> tuple[str, ...]:
        return text_of(job, "output_file_id"), text_of(job, "error_file_id")

    def _status(self, job: Any, key: str | None = None) -> JobStatus:
        word = text_of(job, "status").lower()  # some servers say COMPLETED
        errors = [each for each in _list(job.get("errors"), "data") if isinstance(each, Mapping)]
        return JobStatus(
            job_id=text_of(job, "id"),
            state=_STATES.get(word, JobState.RUNNING),
            total=count_of(job, "request_counts", "total"),
            succeeded=count_of(job, "request_counts", "completed"),
            failed=count_of(job, "request_counts", "failed"),
            created_at=unix_time(job.get("created_at")) or 0.0,
            expires_at=unix_time(job.get("expires_at")),
            key=key or text_of(job, "metadata", METADATA) or None,
            why=why_failed(errors) if word == "failed" else "",
            may_pass=word == "failed" and may_pass_later(errors),
            unknown="" if word in _STATES else word,
        )


def why_failed(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return why a job failed as a whole, by the errors that it lists."""
    told = [": ".join(filter(None, (text_of(each, "code"), text_of(each, "message")))) for each in errors[:3]]
    return "; ".join(filter(None, told)) or "the provider does not say why"


def may_pass_later(errors: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the rows of a job that failed as a whole may succeed in another one."""
    codes = [text_of(each, "code").lower() for each in errors]
    return bool(codes) and all(any(part in code for part in _LATER) for code in codes)


def _result(record: Any) -> BatchResult | None:
    """Return what a line says; None when it names no row."""
    custom_id = text_of(record, "custom_id")
    if not custom_id:
        return None
    response = record.get("response")
    status = count_of(response, "status_code")
    if status == 200:
        return BatchResult(custom_id=custom_id, kind="answered", status=200, body=response.get("body"))
    if status:
        return BatchResult(custom_id=custom_id, kind="failed", status=status, body=response.get("body"))
    error = record.get("error")
    match _NO_ANSWER.get(text_of(error, "code")):
        case "expired":
            return BatchResult(custom_id=custom_id, kind="expired")
        case "cancelled":
            return BatchResult(custom_id=custom_id, kind="cancelled")
    return BatchResult(custom_id=custom_id, kind="failed", status=failure_status(error), body={"error": error})


def _list(data: Any, name: str) -> Iterator[Any]:
    found = data.get(name) if isinstance(data, Mapping) else None
    yield from found if isinstance(found, list) else ()
