"""Gemini's files and batch mode."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from llm_datagen.testing.fake_llm.batch.desk import Desk, RefusedError
from llm_datagen.testing.fake_llm.batch.replies import (
    Asked,
    Reply,
    download,
    json_reply,
    lines_of,
    page_size,
    rfc3339,
    submitted,
)
from llm_datagen.testing.fake_llm.batch.store import Job, Row
from llm_datagen.testing.fake_llm.shapes import GEMINI, grpc_error

_CREATE = re.compile(r"/v1beta/models/([^/:]+):batchGenerateContent")
_FILE = re.compile(r"/v1beta/(files/[^/:]+)")
_DOWNLOAD = re.compile(r"(?:/download)?/v1beta/(files/[^/:]+):download")
_JOB = re.compile(r"/v1beta/(batches/[^/:]+)(:cancel)?")
_UPLOAD = "/upload/v1beta/files"
_STATES = {
    "waiting": "PENDING",
    "running": "RUNNING",
    "cancelling": "RUNNING",
    "completed": "SUCCEEDED",
    "failed": "FAILED",
    "expired": "EXPIRED",
    "cancelled": "CANCELLED",
}


class GeminiBatches:
    """``/v1beta/files`` and ``/v1beta/batches``."""

    shape = GEMINI

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._uploads: dict[str, str] = {}
        desk.writers["gemini"] = self._files_of

    def answer(self, asked: Asked) -> Reply | None:
        """Carry out a request; None when it is not one of this API."""
        if asked.path == _UPLOAD and asked.method == "POST":
            return self._upload(asked)
        if asked.path == "/v1beta/files":
            return self._list_files(asked)
        if asked.path == "/v1beta/batches":
            return self._list(asked)
        if match := _CREATE.fullmatch(asked.path):
            return self._create(asked, match[1])
        if match := _DOWNLOAD.fullmatch(asked.path):
            return download(self._desk, self._body(match[1]))
        if match := _FILE.fullmatch(asked.path):
            self._body(match[1])
            if asked.method == "DELETE":
                self._desk.store.delete_file(match[1], self._desk.now())
                return Reply()
            return json_reply(self._file(match[1]))
        if match := _JOB.fullmatch(asked.path):
            return self._job(asked.method, match[1], cancels=bool(match[2]))
        return None

    def _upload(self, asked: Asked) -> Reply:
        command = asked.headers.get("x-goog-upload-command", "")
        if command == "start":
            upload = f"u{self._desk.store.number('upload'):06}"
            self._uploads[upload] = _name(asked.json()["file"])
            url = f"{asked.origin}{_UPLOAD}?upload_id={upload}&upload_protocol=resumable"
            return Reply(headers=f"X-Goog-Upload-URL: {url}\r\nX-Goog-Upload-Status: active\r\n")
        name = self._uploads.pop(asked.query.get("upload_id", ""), None)
        if name is None or command != "upload, finalize":
            raise RefusedError(400, "there is no such upload, or it is not finalized")
        file_id = self._desk.add_file("gemini", name, asked.body, "files/")
        return json_reply({"file": self._file(file_id)}, "X-Goog-Upload-Status: final\r\n")

    def _list_files(self, asked: Asked) -> Reply:
        ids = [file_id for file_id, api, *_ in self._desk.store.files() if api == "gemini"]
        first, most = int(asked.query.get("pageToken", 0)), page_size(asked, "pageSize", 10, 100, self._desk)
        page = [self._file(file_id) for file_id in ids[first : first + most]]
        return json_reply({"files": page, **_more(first + most, len(ids))} if page else {})

    def _list(self, asked: Asked) -> Reply:
        jobs = self._desk.jobs("gemini")
        first, most = int(asked.query.get("pageToken", 0)), page_size(asked, "pageSize", 20, 100, self._desk)
        page = [self._operation(job) for job in jobs[first : first + most]]
        return json_reply({"operations": page, **_more(first + most, len(jobs))} if page else {})

    def _create(self, asked: Asked, model: str) -> Reply:
        batch = asked.json()["batch"]
        file_id = batch["inputConfig"]["fileName"]
        if self._file(file_id)["state"] != "ACTIVE":
            raise RefusedError(400, f"the file {file_id} is not ready")
        try:
            lines = [orjson.loads(line) for line in self._body(file_id).splitlines() if line.strip()]
            rows = [(line["key"], line["request"]) for line in lines]
        except (ValueError, LookupError, TypeError) as error:
            raise RefusedError(400, "the file cannot be read") from error
        job, fault = self._desk.register(
            "gemini",
            rows,
            key=_name(batch),
            model=model,
            endpoint=f"/v1beta/models/{model}:generateContent",
            prefix="batches/",
            file=file_id,
        )
        acknowledged = json_reply(self._operation(job)) if job else Reply()
        return submitted(fault, acknowledged, orjson.dumps(self.shape.error(500, "An internal error has occurred")))

    def _job(self, method: str, job_id: str, *, cancels: bool) -> Reply:
        job = self._desk.job("gemini", job_id)
        if cancels:
            try:
                self._desk.cancel(job)
            except RefusedError as error:
                raise RefusedError(400, str(error)) from error
            return Reply()
        if method == "DELETE":
            self._desk.delete(job)
            return Reply()
        return json_reply(self._operation(job))

    def _operation(self, job: Job) -> dict[str, Any]:
        progress = self._desk.progress(job)
        has_ended = job.ended is not None
        failed = job.rows - progress.done if job.word == "completed" else 0
        stats = {
            "requestCount": job.rows,
            "successfulRequestCount": progress.done,
            "failedRequestCount": failed,
            "pendingRequestCount": job.rows - progress.done - failed,
        }
        output = {"responsesFile": job.output} if job.output else None
        metadata = {
            "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
            "model": f"models/{job.model}",
            "displayName": job.key,
            "createTime": rfc3339(job.created),
            "updateTime": rfc3339(self._desk.now()),
            "inputConfig": {"fileName": job.input},
            "batchStats": {name: str(count) for name, count in stats.items() if count},
            "state": f"BATCH_STATE_{_STATES[job.word if has_ended and job.word else progress.state]}",
            "name": job.id,
            **({"endTime": rfc3339(job.ended)} if has_ended else {}),
            **({"output": output} if output else {}),
        }
        operation: dict[str, Any] = {"name": job.id, "metadata": metadata}
        if has_ended:
            operation["done"] = True
        if output:
            operation["response"] = output
        elif has_ended:
            operation["error"] = {
                "failed": {"code": 3 if job.why == "invalid_file" else 13, "message": f"The job failed: {job.why}"},
                "expired": {"code": 4, "message": "The job expired."},
            }.get(job.word or "", {"code": 1, "message": "The job was cancelled."})
        return operation

    def _body(self, file_id: str) -> bytes:
        body = self._desk.store.file_body(file_id)
        if body is None:
            raise RefusedError(404, f"there is no file {file_id}, or it may not be read")
        return body

    def _file(self, file_id: str) -> dict[str, Any]:
        _, _, name, created, size = next(each for each in self._desk.store.files() if each[0] == file_id)
        return {
            "name": file_id,
            "displayName": name,
            "mimeType": "application/jsonl",
            "sizeBytes": str(size),
            "createTime": rfc3339(created),
            "state": "ACTIVE" if self._desk.is_ready(created) else "PROCESSING",
        }

    def _files_of(self, job: Job, rows: Sequence[Row]) -> tuple[bytes, bytes]:
        if job.word != "completed":
            return b"", b""
        return lines_of(self._line(row) for row in rows), b""

    def _line(self, row: Row) -> dict[str, Any]:
        if row.kind == "answered":
            return {"key": row.custom_id, "response": self.shape.from_chat(row.answer)}
        if row.kind == "failed":
            return {"key": row.custom_id, "error": grpc_error(row.status or 500, row.answer)}
        return {"key": row.custom_id, "error": {"code": 1, "message": "The operation was cancelled."}}


def _name(told: Any) -> str:
    """Return a display name, which may be put in both ways."""
    name: str = told["displayName"] if "displayName" in told else told["display_name"]
    return name


def _more(end: int, total: int) -> dict[str, str]:
    return {"nextPageToken": str(end)} if end < total else {}
