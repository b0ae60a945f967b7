"""Anthropic's Message Batches."""

from __future__ import annotations

import re
from collections import Counter
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
    rfc3339,
    submitted,
)
from llm_datagen.testing.fake_llm.batch.store import Job, Row
from llm_datagen.testing.fake_llm.shapes import ANTHROPIC

_PATH = "/v1/messages/batches"
_JOB = re.compile(_PATH + r"/([^/]+)(/cancel|/results)?")
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ROWS = 100_000
_KINDS = {
    "answered": "succeeded",
    "failed": "errored",
    "cancelled": "canceled",
    "expired": "expired",
    "lost": "expired",
}


class AnthropicBatches:
    """``/v1/messages/batches``."""

    shape = ANTHROPIC

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def answer(self, asked: Asked) -> Reply | None:
        """Carry out a request; None when it is not one of this API."""
        if asked.path == _PATH:
            return self._create(asked) if asked.method == "POST" else self._list(asked)
        match = _JOB.fullmatch(asked.path)
        if match is None:
            return None
        job = self._desk.job("anthropic", match[1])
        match asked.method, match[2]:
            case "POST", "/cancel":
                return json_reply(self._batch(self._cancelled(job), asked.origin))
            case "GET", "/results":
                if job.ended is None:
                    raise RefusedError(404, "the batch has no results yet")
                return download(self._desk, lines_of(self._result(row) for row in self._desk.results(job)))
            case "DELETE", None:
                if job.ended is None:
                    raise RefusedError(400, "the batch has not ended: cancel it first")
                self._desk.delete(job)
                return json_reply({"id": job.id, "type": "message_batch_deleted"})
        return json_reply(self._batch(job, asked.origin))

    def _create(self, asked: Asked) -> Reply:
        requests = asked.json()["requests"]
        ids = [each["custom_id"] for each in requests]
        if not 1 <= len(requests) <= _ROWS:
            raise RefusedError(400, f"requests: 1 to {_ROWS} are wanted")
        if not all(map(_CUSTOM_ID.fullmatch, ids)) or len(set(ids)) < len(ids):
            raise RefusedError(400, "requests: a custom_id is not valid, or not unique")
        job, fault = self._desk.register(
            "anthropic",
            [(each["custom_id"], each["params"]) for each in requests],
            key=ids[0].rpartition("-")[0],
            model=requests[0]["params"]["model"],
            endpoint="/v1/messages",
            prefix="msgbatch_",
        )
        acknowledged = json_reply(self._batch(job, asked.origin)) if job else Reply()
        return submitted(fault, acknowledged, orjson.dumps(self.shape.error(500, "Internal server error")))

    def _list(self, asked: Asked) -> Reply:
        jobs = self._desk.jobs("anthropic")
        most = page_size(asked, "limit", 20, 1000, self._desk)
        rest = after(jobs, [job.id for job in jobs], asked.query.get("after_id"))
        page = [self._batch(job, asked.origin) for job in rest[:most]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return json_reply({"data": page, **ends, "has_more": len(rest) > most})

    def _cancelled(self, job: Job) -> Job:
        try:
            return self._desk.cancel(job)
        except RefusedError as error:
            raise RefusedError(400, str(error)) from error

    def _batch(self, job: Job, origin: str) -> dict[str, Any]:
        counts: Counter[str] = Counter(dict.fromkeys(("processing", *_KINDS.values()), 0))
        has_ended = job.ended is not None
        if has_ended:  # until then all of them count as being worked on
            for kind, rows in self._desk.store.kinds(job.id).items():
                counts["errored" if job.word == "failed" else _KINDS[kind or ""]] += rows
        else:
            counts["processing"] = job.rows
        state = self._desk.progress(job).state
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": "ended" if has_ended else "canceling" if state == "cancelling" else "in_progress",
            "request_counts": dict(counts),
            "created_at": rfc3339(job.created),
            "expires_at": rfc3339(job.created + self._desk.options.window),
            "ended_at": rfc3339(job.ended),
            "cancel_initiated_at": rfc3339(job.cancelled),
            "archived_at": None,
            "results_url": f"{origin}{_PATH}/{job.id}/results" if has_ended else None,
        }

    def _result(self, row: Row) -> dict[str, Any]:
        kind = "errored" if row.kind == "failed" and row.answer is None else _KINDS[row.kind or ""]
        result: dict[str, Any] = {"type": kind}
        if kind == "succeeded":
            result["message"] = self.shape.from_chat(row.answer)
        elif kind == "errored":  # of a job that failed as a whole, too: this API fails each of its rows
            result["error"] = self.shape.error(row.status or 500, row.answer or "Internal server error")
        return {"custom_id": row.custom_id, "result": result}
