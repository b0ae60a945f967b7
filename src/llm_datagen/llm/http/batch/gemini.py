"""Gemini's batch mode: a file of requests, a job that works on it, and a file of responses.

The key of a job is its display name, which listings show, and that of its file. Requests are sent as a file, though few
of them might stand in the job itself: a job with them inside hands all its answers back with every look at it, and with
every listing; it holds 20 MB, a file 2 GB.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

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
)
from llm_datagen.llm.http.batch.lines import Lines
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
    without_results,
)
from llm_datagen.streams.formats.json_text import dumps

_STATES = {
    "PENDING": JobState.WAITING,
    "RUNNING": JobState.RUNNING,
    "SUCCEEDED": JobState.ENDED,
    "FAILED": JobState.ENDED,
    "CANCELLED": JobState.ENDED,
    "EXPIRED": JobState.ENDED,
    "PARTIALLY_SUCCEEDED": JobState.ENDED,
}
_SUCCEEDED = ("SUCCEEDED", "PARTIALLY_SUCCEEDED")
_CANCELLED = 1
_STATUSES = {2: 500, 3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503, 16: 401}
"""The HTTP statuses of the codes of gRPC, which an error may have in their place."""
_LATER = (4, 8, 13, 14)
_PAGE = 100


class GeminiBatchAdapter(BatchAdapter):
    """Speaks the batch mode of the Gemini API (that of Vertex works on buckets, and is not this one)."""

    limits = BatchLimits(rows=100_000, bytes=2_000_000_000)

    def line(self, item: BatchItem) -> bytes:
        """Return the row as a line of the file."""
        return dumps({"key": item.custom_id, "request": item.body})

    async def submit(self, http: BatchHttp, items: Sequence[BatchItem], *, key: str, model: str) -> str:
        """Send the file, then register the job; see `BatchAdapter.submit`."""
        with before_the_job():
            name = await self._upload(http, Lines(self.line, items), checked_key(key))
        path = f"/models/{quote(model.removeprefix('models/'), safe='')}:batchGenerateContent"
        job = {"batch": {"displayName": key, "inputConfig": {"fileName": name}}}
        return needed(await http.request("POST", path, data=job), http, "name")

    async def find(self, http: BatchHttp, sought: SoughtJob) -> list[JobStatus]:
        """Return the jobs with the key as their display name."""
        statuses = [
            _status(job)
            async for job in self._listed(http, "/batches", "operations")
            if text_of(job, "metadata", "displayName") == sought.key
        ]
        return oldest_first(statuses, sought)

    async def status(self, http: BatchHttp, job_id: str) -> JobStatus:
        """Return what a job is doing."""
        return _status(await self._read(http, job_id))

    async def results(self, http: BatchHttp, job_id: str) -> AsyncGenerator[BatchResult, None]:
        """Yield the lines of the file of responses. There is none after a job expired or was cancelled."""
        job = await self._read(http, job_id)
        status = _status(job)
        name, seen = _responses_file(job), Seen(http, status)
        if not name:
            if status.succeeded or _word(job) in _SUCCEEDED:
                raise without_results(http, status, are_gone=False)
            return
        async for record in http.records(f"/{name}:download?alt=media"):
            result = _result(record)
            if result is not None:
                seen.add(result)
                yield result
        seen.check()

    async def cancel(self, http: BatchHttp, job_id: str) -> None:
        """Ask for a job to be cancelled. No error when it has ended."""
        await ask_to_cancel(http, f"/{job_id}:cancel", f"/{job_id}", lambda job: _status(job).state)

    async def delete(self, http: BatchHttp, job_id: str) -> None:
        """Delete a job and its files."""
        job = await if_there(http, "GET", f"/{job_id}")
        if job is None:
            return
        files = {_responses_file(job), text_of(job, "metadata", "inputConfig", "fileName")} - {""}
        for name in sorted(files):
            await self._delete_file(http, name)
        await self.withdraw(http, text_of(job, "metadata", "displayName"))
        await if_there(http, "DELETE", f"/{job_id}")

    async def withdraw(self, http: BatchHttp, key: str) -> None:
        """Delete the files with the key as their display name."""
        listed = [each async for each in self._listed(http, "/files", "files")]
        for each in listed:
            if key and text_of(each, "displayName") == key:
                await self._delete_file(http, text_of(each, "name"))

    async def _upload(self, http: BatchHttp, lines: Lines, key: str) -> str:
        """Send the file, as the API wants it: it is told of it, and says where to send it. Return its name."""
        kind = "application/jsonl"
        told = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(await lines.length()),
            "X-Goog-Upload-Header-Content-Type": kind,
        }
        file = {"file": {"displayName": key, "mimeType": kind}}
        started = await http.request("POST", _uploads(http), data=file, headers=told)
        url = started.headers.get("X-Goog-Upload-URL", "")
        if not url:
            needed(started, http, "X-Goog-Upload-URL")
        sent = {"Content-Type": kind, "X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"}
        uploaded = await http.request("POST", url, pieces=lines, headers=sent)
        name = needed(uploaded, http, "file", "name")
        await until_ready(http, f"/{name}", uploaded.data, lambda file: text_of(file.get("file", file), "state"))
        return name

    async def _delete_file(self, http: BatchHttp, name: str) -> None:
        """Delete a file. Those that the provider keeps for itself go by themselves after two days."""
        try:
            await if_there(http, "DELETE", f"/{name}")
        except LLMRequestError as error:
            if error.status not in (400, 403):
                raise

    async def _read(self, http: BatchHttp, job_id: str) -> Mapping[str, Any]:
        response = await http.request("GET", f"/{job_id}")
        needed(response, http, "name")
        job: Mapping[str, Any] = response.data
        return job

    async def _listed(self, http: BatchHttp, path: str, field: str) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what a listing has, of all its pages."""
        token, seen = "", set()
        while token not in seen:
            seen.add(token)
            page = f"{path}?pageSize={_PAGE}" + (f"&pageToken={quote(token, safe='')}" if token else "")
            data = await (
                page_of(http, page, field, is_left_out=True) if field == "operations" else if_there(http, "GET", page)
            )
            for each in (data.get(field) if isinstance(data, Mapping) else None) or ():
                if isinstance(each, Mapping):
                    yield each
            token = text_of(data, "nextPageToken")
            if not token:
                return


def _uploads(http: BatchHttp) -> str:
    """Return where files are sent to: the version of the API stands behind another word there."""
    before, _, version = http.base.raw_path.rstrip("/").rpartition("/")
    return str(http.base.with_path(f"{before}/upload/{version}/files", encoded=True, keep_query=True))


def _responses_file(job: Any) -> str:
    output = text_of(job, "metadata", "output", "responsesFile")
    return output or text_of(job, "response", "responsesFile") or text_of(job, "response", "output", "responsesFile")


def _word(job: Mapping[str, Any]) -> str:
    return text_of(job, "metadata", "state").upper().removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")


def _status(job: Mapping[str, Any]) -> JobStatus:
    word = _word(job)
    state = _STATES.get(word, JobState.ENDED if job.get("done") else JobState.RUNNING)
    error = job.get("error") if word == "FAILED" or (job.get("done") and word not in _STATES) else None
    metadata = job.get("metadata")
    why = ""
    if word == "FAILED" or error:
        why = text_of(error, "message") or "the provider does not say why"
    return JobStatus(
        job_id=text_of(job, "name"),
        state=state,
        total=count_of(metadata, "batchStats", "requestCount"),
        succeeded=count_of(metadata, "batchStats", "successfulRequestCount"),
        failed=count_of(metadata, "batchStats", "failedRequestCount"),
        created_at=unix_time(metadata.get("createTime") if isinstance(metadata, Mapping) else None) or 0.0,
        key=text_of(metadata, "displayName") or None,
        why=why,
        may_pass=bool(why) and count_of(error, "code") in _LATER,
        unknown="" if word in _STATES or job.get("done") else word,
    )


def _result(record: Any) -> BatchResult | None:
    """Return what a line says; None when it names no row."""
    custom_id = text_of(record, "key") or text_of(record, "metadata", "key")
    if not custom_id:
        return None
    error = record.get("error")
    if not error:
        return BatchResult(custom_id=custom_id, kind="answered", status=200, body=record.get("response"))
    code = count_of(error, "code")
    if code == _CANCELLED:  # a single row may be, of a job that succeeded
        return BatchResult(custom_id=custom_id, kind="cancelled")
    status = code if 400 <= code < 600 else _STATUSES.get(code) or failure_status(error)
    return BatchResult(custom_id=custom_id, kind="failed", status=status, body={"error": error})
