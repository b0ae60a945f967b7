"""Takes jobs, and works on them by the clock: what a job has become is worked out when somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson

from llm_datagen.testing.fake_llm.batch.options import LLMBatches
from llm_datagen.testing.fake_llm.batch.store import Job, Row, Store
from llm_datagen.testing.fake_llm.bodies import texts_in
from llm_datagen.testing.fake_llm.completions import Completions, prompt_tokens
from llm_datagen.testing.fake_llm.faults import draws
from llm_datagen.testing.fake_llm.shapes import Shape, shape_of

Writer = Callable[[Job, Sequence[Row]], tuple[bytes, bytes]]
"""Makes the files of answers and of errors of a job that has ended; empty for none."""


class RefusedError(Exception):
    """Raised when a request cannot be carried out.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. `state`: ``late``, ``waiting``, ``running``, ``cancelling`` or ``ended``; `done`: rows."""

    state: str
    done: int


class Desk:
    """The jobs of all batch APIs of a server. Used from several threads.

    Args:
        options: how jobs are worked on.
        completions: makes the answers.
        seed: of the faults.
        clock: returns the seconds since 1970.
    """

    def __init__(self, options: LLMBatches, completions: Completions, seed: int, clock: Callable[[], float]) -> None:
        self.options = options
        self.store = Store(options.path)
        self.now = clock
        self.writers: dict[str, Writer] = {}
        self._completions = completions
        self._seed = seed

    def draw(self, what: str) -> float:
        """Return a number from 0 to 1 that depends on the seed, and on how often this was asked for."""
        return draws(self._seed, what.encode(), self.store.number(what))[0]

    def add_file(self, api: str, name: str, body: bytes, prefix: str) -> str:
        """Keep a file, and return its id."""
        file_id = f"{prefix}{self.store.number('file id'):06}"
        self.store.add_file(file_id, api, name, self.now(), body)
        return file_id

    def is_ready(self, created: float) -> bool:
        """Return whether a file of that time can be used."""
        return self.now() >= created + self.options.file_waits

    def register(
        self,
        api: str,
        rows: Sequence[tuple[str, Any]],
        *,
        key: str,
        model: str,
        endpoint: str,
        prefix: str,
        file: str = "",
        told: Any = None,
        why: str | None = None,
    ) -> tuple[Job | None, str | None]:
        """Register a job, unless a fault is in the way, and return it with the fault of the submit.

        Args:
            api: that takes it.
            rows: custom ids and bodies.
            key: what its client calls it by.
            model: of the rows.
            endpoint: the path that they are for.
            prefix: of its id.
            file: the id of its file.
            told: what else the client told.
            why: a code of why it is to fail as a whole; None: it is not.

        Raises:
            RefusedError: when too many tokens are enqueued, and the API says so at once.
        """
        with self.store.transaction():
            tokens = sum(_tokens(body, endpoint) for _, body in rows)
            enqueued = sum(job.tokens for job in self.jobs() if job.ended is None)
            most = self.options.enqueued_tokens
            if most is not None and enqueued + tokens > most:
                if api != "openai":
                    raise RefusedError(429, f"too many tokens are enqueued: {enqueued:,} of {most:,}")
                why = why or "token_limit_exceeded"
            fault = self.options.faults.of_submit(self.draw("submit"))
            if fault == "drop_before":
                return None, fault
            number = self.store.number("job")
            job = Job(
                id=f"{prefix}{number:06}",
                number=number,
                api=api,
                key=key,
                model=model,
                endpoint=endpoint,
                input=file,
                rows=len(rows),
                tokens=tokens,
                created=self.now() + (self.options.faults.late_s if fault == "register_late" else 0.0),
                told=told or {},
                fault="job_failed" if why else self.options.faults.of_job(self.draw("job fault")),
                cancelled=None,
                ended=None,
                word=None,
                why=why,
                output=None,
                errors=None,
                deleted=None,
            )
            self.store.add_job(job, rows)
            return self.store.job(job.id), fault

    def jobs(self, api: str | None = None) -> list[Job]:
        """Return the jobs that can be seen now, the newest first."""
        with self.store.transaction():
            now = self.now()
            for job in self.store.jobs():
                self._advance(job, now)
            return [
                job
                for job in self.store.jobs()
                if api in (None, job.api) and job.created <= now and job.deleted is None
            ]

    def job(self, api: str, job_id: str) -> Job:
        """Return a job.

        Raises:
            RefusedError: when there is none.
        """
        found = next((job for job in self.jobs(api) if job.id == job_id), None)
        if found is None:
            raise RefusedError(404, f"there is no job {job_id!r}")
        return found

    def progress(self, job: Job) -> Progress:
        """Return how far a job is."""
        now, starts = self.now(), job.created + self.options.waits
        if job.ended is not None:
            return Progress("ended", self.store.kinds(job.id)["answered"])
        state = "cancelling" if job.cancelled is not None else "waiting" if now < starts else "running"
        return Progress(state, self._done(job, min(now, job.cancelled or now)))

    def cancel(self, job: Job) -> Job:
        """Ask for a job to be cancelled, and return it.

        Raises:
            RefusedError: when it has ended.
        """
        if job.ended is not None:
            raise RefusedError(409, f"the job {job.id} has ended")
        if job.cancelled is None:
            self.store.set_job(job.id, cancelled=self.now())
        return next(each for each in self.jobs(job.api) if each.id == job.id)

    def delete(self, job: Job) -> None:
        """Delete a job. It does not end by that."""
        self.store.set_job(job.id, deleted=self.now())

    def results(self, job: Job) -> list[Row]:
        """Return the rows of a job that has ended, in an order of their own."""
        rows = self.store.rows(job.id)
        Random(f"{self._seed}/{job.number}/results").shuffle(rows)
        return rows

    def _advance(self, job: Job, now: float) -> None:
        """End a job whose time has come."""
        if job.ended is not None or job.created > now:
            return
        deleted = self.store.deleted_at(job.input) if job.input else None
        starts = job.created + self.options.waits
        ends, word = starts + self.options.seconds, "completed"
        if job.fault == "job_failed" or (deleted is not None and deleted <= starts):
            ends, word = starts, "failed"
        elif job.fault in ("job_expired", "job_cancelled"):
            ends, word = starts + self.options.seconds / 2, job.fault.removeprefix("job_")
        elif job.created + self.options.window < ends:
            ends, word = job.created + self.options.window, "expired"
        stops = ends
        if job.cancelled is not None and job.cancelled < ends:
            stops, ends, word = job.cancelled, job.cancelled + self.options.cancelling, "cancelled"
        if ends <= now:
            self._end(job, stops, ends, word, job.why or ("server_error" if deleted is None else "invalid_file"))

    def _end(self, job: Job, stops: float, ends: float, word: str, why: str) -> None:
        rows = self.store.rows(job.id)
        is_lost = job.api == "gemini" and word in ("expired", "cancelled")  # it keeps no results then
        done = len(rows) if word == "completed" else 0 if word == "failed" or is_lost else self._done(job, stops)
        order = Random(f"{self._seed}/{job.number}").sample(range(len(rows)), len(rows))
        places = {at: place for place, at in enumerate(order)}
        results = [
            self._result(job, row) if places[at] < done else (word, 0, None, 0, 0) for at, row in enumerate(rows)
        ]
        self.store.set_rows(job.id, results)
        self.store.set_job(job.id, ended=ends, word=word, why=why if word == "failed" else None)
        writer = self.writers.get(job.api)
        settled = self.store.job(job.id)
        if writer is None or settled is None or word == "failed":
            return
        output, errors = writer(settled, self.results(settled))
        names = {"output": output, "errors": errors}
        api, prefix = ("gemini", "files/") if job.api == "gemini" else ("openai", "file-")  # Mistral has files alike
        made = {
            name: self.add_file(api, f"{job.id}_{name}.jsonl", body, prefix) for name, body in names.items() if body
        }
        if made:
            self.store.set_job(job.id, **made)

    def _done(self, job: Job, until: float) -> int:
        """Return how many rows are answered by a time."""
        starts, seconds = job.created + self.options.waits, self.options.seconds
        if until < starts or job.fault == "job_failed":
            return 0
        share = 1.0 if not seconds else min(1.0, (until - starts) / seconds)
        if job.fault in ("job_expired", "job_cancelled"):
            share = min(share, 0.5)
        return int(job.rows * share)

    def _result(self, job: Job, row: Row) -> tuple[str, int, Any, int, int]:
        fault = self.options.faults.of_row(draws(self._seed, row.custom_id.encode(), 1)[0])
        match fault:
            case "row_failed":
                return "failed", 400, "the request is not valid", 0, 0
            case "row_overloaded":
                return "failed", 503, "the model is overloaded", 0, 0
            case "row_lost":
                return "lost", 0, None, 0, 0
        try:
            chat = _shape(job.endpoint).to_chat(row.body, job.model)
            completion = self._completions.make(orjson.dumps(row.body), chat)
        except Exception as error:  # noqa: BLE001 - the answer function is the test's own; the client gets the error
            return "failed", 400, f"no answer could be made: {error!r}", 0, 0
        usage = completion["usage"]
        return "answered", 200, completion, usage["prompt_tokens"], usage["completion_tokens"]


def text_of_row(body: Any, endpoint: str) -> str:
    """Return the text of the last message of a row."""
    return texts_in(_shape(endpoint).to_chat(body, ""))[-1]


def _shape(endpoint: str) -> Shape:
    found = shape_of(endpoint)
    if found is None:
        raise RefusedError(400, f"there are no jobs for {endpoint!r}")
    return found[0]


def _tokens(body: Any, endpoint: str) -> int:
    try:
        return prompt_tokens(_shape(endpoint).to_chat(body, ""))
    except (TypeError, LookupError, AttributeError):
        return 1
