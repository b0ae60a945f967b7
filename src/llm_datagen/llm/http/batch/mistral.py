"""Mistral's batch API: files as OpenAI has them, and jobs at ``/batch/jobs`` with words of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from llm_datagen.llm.http.batch.base import (
    BatchHttp,
    BatchItem,
    BatchLimits,
    JobState,
    JobStatus,
    SoughtJob,
    checked_key,
)
from llm_datagen.llm.http.batch.openai import METADATA, OpenAIBatchAdapter, may_pass_later, why_failed
from llm_datagen.llm.http.batch.reading import before_the_job, count_of, if_there, needed, page_of, text_of, unix_time
from llm_datagen.streams.formats.json_text import dumps

_STATES = {
    "QUEUED": JobState.WAITING,
    "RUNNING": JobState.RUNNING,
    "CANCELLATION_REQUESTED": JobState.CANCELLING,
    "SUCCESS": JobState.ENDED,
    "FAILED": JobState.ENDED,
    "TIMEOUT_EXCEEDED": JobState.ENDED,
    "CANCELLED": JobState.ENDED,
}
_PAGE = 100


class MistralBatchAdapter(OpenAIBatchAdapter):
    """Speaks Mistral's batch API."""

    limits = BatchLimits(rows=100_000, bytes=200_000_000)

    def line(self, item: BatchItem) -> bytes:
        """Return the row as a line of the file. The model is the job's."""
        body = {name: value for name, value in item.body.items() if name != "model"}
        return dumps({"custom_id": item.custom_id, "body": body})

    async def submit(self, http: BatchHttp, items: Sequence[BatchItem], *, key: str, model: str) -> str:
        """Send the file, then register the job; see `BatchAdapter.submit`."""
        with before_the_job():
            file_id = await self._upload(http, items, f"{checked_key(key)}.jsonl")
        job = {
            "input_files": [file_id],
            "endpoint": self._url,
            "model": model,
            "metadata": {METADATA: key},
            "timeout_hours": 24,
        }
        return needed(await http.request("POST", "/batch/jobs", data=job), http, "id")

    async def delete(self, http: BatchHttp, job_id: str) -> None:
        """Delete the files of a job, and the job."""
        await super().delete(http, job_id)
        await if_there(http, "DELETE", self._job(job_id))

    async def _jobs(self, http: BatchHttp, sought: SoughtJob) -> AsyncIterator[Mapping[str, Any]]:
        page, seen = 0, 0
        while True:
            data = await page_of(http, f"/batch/jobs?page={page}&page_size={_PAGE}", "data")
            jobs = data.get("data")
            for job in jobs or ():
                if isinstance(job, Mapping) and sought.may_be(unix_time(job.get("created_at")) or 0.0):
                    yield job
            page, seen = page + 1, seen + len(jobs or ())
            if not jobs or seen >= count_of(data, "total"):
                return

    def _job(self, job_id: str) -> str:
        return f"/batch/jobs/{job_id}"

    def _input_files(self, job: Any) -> tuple[str, ...]:
        return tuple(each for each in job.get("input_files") or () if isinstance(each, str))

    def _result_files(self, job: Any) -> tuple[str, ...]:
        return text_of(job, "output_file"), text_of(job, "error_file")

    def _status(self, job: Any, key: str | None = None) -> JobStatus:
        word = text_of(job, "status").upper()
        errors = [each for each in job.get("errors") or () if isinstance(each, Mapping)]
        return JobStatus(
            job_id=text_of(job, "id"),
            state=_STATES.get(word, JobState.RUNNING),
            total=count_of(job, "total_requests"),
            succeeded=count_of(job, "succeeded_requests"),
            failed=count_of(job, "failed_requests"),
            created_at=unix_time(job.get("created_at")) or 0.0,
            key=key or text_of(job, "metadata", METADATA) or None,
            why=why_failed(errors) if word == "FAILED" else "",
            may_pass=word == "FAILED" and may_pass_later(errors),
            unknown="" if word in _STATES else word,
        )
