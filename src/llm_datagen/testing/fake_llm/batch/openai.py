"""OpenAI's files and batches, which Azure has too, and Mistral's, which has files alike and jobs of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from llm_datagen.testing.fake_llm.batch.desk import Desk, RefusedError
from llm_datagen.testing.fake_llm.batch.replies import (
    Asked,
    Reply,
    after,
    download,
    json_reply,
    lines_of,
    page_size,
    submitted,
)
from llm_datagen.testing.fake_llm.batch.store import Job, Row
from llm_datagen.testing.fake_llm.shapes import CHAT, shape_of

_ROWS = 50_000
_FILE = re.compile(r"/v1/files/([^/]+)(/content)?")
_BATCH = re.compile(r"/v1/batches/([^/]+)(/cancel)?")
_JOB = re.compile(r"/v1/batch/jobs/([^/]+)(/cancel)?")
_RUNNING = {"waiting": "validating", "running": "in_progress", "cancelling": "cancelling"}
_MISTRAL = {
    "waiting": "QUEUED",
    "running": "RUNNING",
    "cancelling": "CANCELLATION_REQUESTED",
    "completed": "SUCCESS",
    "failed": "FAILED",
    "expired": "TIMEOUT_EXCEEDED",
    "cancelled": "CANCELLED",
}
_WHYS = {
    "token_limit_exceeded": "Enqueued token limit reached. Try again once some batches have been completed.",
    "duplicate_custom_id": "The custom_id of a line was used before in the file.",
    "mismatched_endpoint": "The url of a line is not the endpoint of the batch.",
    "mismatched_model": "The lines of the file name several models.",
    "too_many_tasks": f"The file has more than {_ROWS:,} lines.",
    "invalid_file": "The input file cannot be read.",
}


class OpenAIBatches:
    """``/v1/files``, ``/v1/batches`` and ``/v1/batch/jobs``."""

    shape = CHAT

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        desk.writers |= {"openai": self._files_of, "mistral": self._files_of}

    def answer(self, asked: Asked) -> Reply | None:
        """Carry out a request; None when it is not one of these APIs."""
        match asked.method, asked.path:
            case "POST", "/v1/files":
                return self._upload(asked)
            case "GET", "/v1/files":
                return self._list_files(asked)
            case "POST", "/v1/batches":
                return self._create(asked)
            case "GET", "/v1/batches":
                return self._list_batches(asked)
            case "POST", "/v1/batch/jobs":
                return self._create_mistral(asked)
            case "GET", "/v1/batch/jobs":
                return self._list_mistral(asked)
        if match := _FILE.fullmatch(asked.path):
            return self._file(asked.method, match[1], wants_content=bool(match[2]))
        for pattern, api in ((_BATCH, "openai"), (_JOB, "mistral")):
            if match := pattern.fullmatch(asked.path):
                return self._job(asked.method, api, match[1], cancels=bool(match[2]))
        return None

    def _upload(self, asked: Asked) -> Reply:
        fields = _form(asked)
        name, body = fields.get("file", ("", b""))
        if fields.get("purpose", ("", b""))[1] != b"batch" or not name:
            raise RefusedError(400, "a file with a name and the purpose 'batch' is wanted")
        return json_reply(self._file_object(self._desk.add_file("openai", name, body, "file-")))

    def _list_files(self, asked: Asked) -> Reply:
        objects = [self._file_object(file_id) for file_id, api, *_ in self._desk.store.files() if api == "openai"]
        ids = [each["id"] for each in objects if each["purpose"] == asked.query.get("purpose", each["purpose"])]
        most = page_size(asked, "limit", 10_000, 10_000, self._desk)
        rest = after(ids, ids, asked.query.get("after"))
        page = [self._file_object(file_id) for file_id in rest[:most]]
        return json_reply({"object": "list", "data": page, "has_more": len(rest) > most})

    def _file(self, method: str, file_id: str, *, wants_content: bool) -> Reply:
        body = self._desk.store.file_body(file_id)
        if body is None:
            raise RefusedError(404, f"No such File object: {file_id}")
        if wants_content:
            return download(self._desk, body)
        if method == "DELETE":
            self._desk.store.delete_file(file_id, self._desk.now())
            return json_reply({"id": file_id, "object": "file", "deleted": True})
        return json_reply(self._file_object(file_id))

    def _create(self, asked: Asked) -> Reply:
        told = asked.json()
        endpoint, file_id = told["endpoint"], told["input_file_id"]
        body = self._desk.store.file_body(file_id)
        if body is None or self._file_object(file_id)["status"] != "processed":
            raise RefusedError(400, f"Invalid input_file_id: {file_id}")
        if told["completion_window"] != "24h" or shape_of(endpoint) is None:
            raise RefusedError(400, "Invalid completion_window or endpoint")
        why, rows, model = _checked(body, endpoint)
        metadata = told.get("metadata") or {}
        job, fault = self._desk.register(
            "openai",
            rows,
            key=next(iter(metadata.values()), ""),
            model=model,
            endpoint=endpoint,
            prefix="batch_",
            file=file_id,
            told={"metadata": metadata},
            why=why,
        )
        acknowledged = json_reply(self._batch(job)) if job else Reply()
        return submitted(fault, acknowledged, orjson.dumps(self.shape.error(500, "The server had an error")))

    def _list_batches(self, asked: Asked) -> Reply:
        jobs = self._desk.jobs("openai")
        most = page_size(asked, "limit", 20, 100, self._desk)
        rest = after(jobs, [job.id for job in jobs], asked.query.get("after"))
        page = [self._batch(job) for job in rest[:most]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return json_reply({"object": "list", "data": page, **ends, "has_more": len(rest) > most})

    def _job(self, method: str, api: str, job_id: str, *, cancels: bool) -> Reply:
        job = self._desk.job(api, job_id)
        if cancels:
            job = self._desk.cancel(job)
        elif method == "DELETE":
            if api == "openai":
                raise RefusedError(405, "Batches cannot be deleted")
            self._desk.delete(job)
            return json_reply({"id": job_id, "object": "batch", "deleted": True})
        return json_reply(self._batch(job) if api == "openai" else self._mistral(job))

    def _create_mistral(self, asked: Asked) -> Reply:
        told = asked.json()
        (file_id,) = told["input_files"]
        body = self._desk.store.file_body(file_id)
        if body is None:
            raise RefusedError(422, f"there is no file {file_id}")
        lines = [orjson.loads(line) for line in body.splitlines() if line.strip()]
        metadata = told.get("metadata") or {}
        job, fault = self._desk.register(
            "mistral",
            [(line["custom_id"], line["body"]) for line in lines],
            key=next(iter(metadata.values()), ""),
            model=told["model"],
            endpoint=told["endpoint"],
            prefix="mistral-job-",
            file=file_id,
            told={"metadata": metadata},
        )
        return submitted(fault, json_reply(self._mistral(job)) if job else Reply(), b'{"message": "server error"}')

    def _list_mistral(self, asked: Asked) -> Reply:
        jobs = self._desk.jobs("mistral")
        most = page_size(asked, "page_size", 100, 100, self._desk)
        first = int(asked.query.get("page", 0)) * most
        page = [self._mistral(job) for job in jobs[first : first + most]]
        return json_reply({"object": "list", "data": page, "total": len(jobs)})

    def _batch(self, job: Job) -> dict[str, Any]:
        progress = self._desk.progress(job)
        is_failed = job.word == "failed"
        errors = [{"code": job.why, "message": _WHYS.get(job.why or "", "It failed."), "param": None, "line": None}]
        failed = job.rows - progress.done if job.ended is not None and not is_failed else 0
        status = job.word if job.ended is not None else _RUNNING[progress.state]
        ended = {f"{job.word}_at": int(job.ended)} if job.ended is not None else {}
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.endpoint,
            "errors": {"object": "list", "data": errors} if is_failed else None,
            "input_file_id": job.input,
            "completion_window": "24h",
            "status": status,
            "output_file_id": job.output,
            "error_file_id": job.errors,
            "created_at": int(job.created),
            "expires_at": int(job.created + self._desk.options.window),
            "cancelling_at": None if job.cancelled is None else int(job.cancelled),
            "request_counts": {
                "total": 0 if is_failed or progress.state == "waiting" else job.rows,
                "completed": progress.done,
                "failed": failed,
            },
            "metadata": job.told["metadata"] or None,
            **ended,
        }

    def _mistral(self, job: Job) -> dict[str, Any]:
        progress = self._desk.progress(job)
        failed = job.rows - progress.done if job.ended is not None else 0
        errors = [{"message": _WHYS.get(job.why, "It failed."), "count": 1}] if job.why else []
        return {
            "id": job.id,
            "object": "batch",
            "input_files": [job.input],
            "endpoint": job.endpoint,
            "model": job.model,
            "metadata": job.told["metadata"],
            "status": _MISTRAL[job.word if job.ended is not None and job.word else progress.state],
            "errors": errors,
            "created_at": int(job.created),
            "total_requests": job.rows,
            "completed_requests": progress.done + failed,
            "succeeded_requests": progress.done,
            "failed_requests": failed,
            "output_file": job.output,
            "error_file": job.errors,
        }

    def _file_object(self, file_id: str) -> dict[str, Any]:
        _, _, name, created, size = next(each for each in self._desk.store.files() if each[0] == file_id)
        purpose = "batch_output" if name.startswith(("batch_", "mistral-job-")) else "batch"
        return {
            "id": file_id,
            "object": "file",
            "bytes": size,
            "created_at": int(created),
            "filename": name,
            "purpose": purpose,
            "status": "processed" if self._desk.is_ready(created) else "pending",
            **{"sample_type": "batch_request", "source": "upload"},  # what Mistral says of a file
        }

    def _files_of(self, job: Job, rows: Sequence[Row]) -> tuple[bytes, bytes]:
        found = shape_of(job.endpoint)
        shape = found[0] if found else CHAT
        lines: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for row in rows:
            response, error = None, None
            if row.kind in ("answered", "failed"):
                is_answer = row.kind == "answered"
                body = shape.from_chat(row.answer) if is_answer else shape.error(row.status or 500, row.answer)
                response = {"status_code": row.status, "request_id": f"req_{row.custom_id}", "body": body}
            else:
                code = "batch_cancelled" if row.kind == "cancelled" else "batch_expired"
                error = {"code": code, "message": "This request could not be executed."}
            lines[row.kind == "answered"].append(
                {"id": f"batch_req_{row.custom_id}", "custom_id": row.custom_id, "response": response, "error": error}
            )
        return lines_of(lines[True]), lines_of(lines[False])


def _checked(body: bytes, endpoint: str) -> tuple[str | None, list[tuple[str, Any]], str]:
    """Return why a file cannot be worked on (None: it can), its rows, and their model."""
    try:
        lines = [orjson.loads(line) for line in body.splitlines() if line.strip()]
        rows = [(line["custom_id"], line["body"]) for line in lines]
        models = {row["model"] for _, row in rows}
        urls = {(line["method"], line["url"]) for line in lines}
    except (ValueError, LookupError, TypeError):
        return "invalid_file", [], ""
    why = None
    if urls != {("POST", endpoint)}:
        why = "mismatched_endpoint"
    elif len(models) != 1:
        why = "mismatched_model"
    elif len({custom_id for custom_id, _ in rows}) < len(rows):
        why = "duplicate_custom_id"
    elif len(rows) > _ROWS:
        why = "too_many_tasks"
    return why, rows, next(iter(models), "")


def _form(asked: Asked) -> Mapping[str, tuple[str, bytes]]:
    """Return the fields of a form (multipart): by name, the name of a file (empty for none) and what is in it."""
    kind, _, boundary = asked.headers.get("content-type", "").partition("boundary=")
    if not kind.startswith("multipart/form-data") or not boundary:
        raise RefusedError(400, "a form is wanted (multipart/form-data)")
    found = {}
    for part in asked.body.split(b"--" + boundary.strip('"').encode())[1:-1]:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        names = dict(re.findall(r'(name|filename)="([^"]*)"', head.decode()))
        found[names.get("name", "")] = names.get("filename", ""), body.removesuffix(b"\r\n")
    return found
