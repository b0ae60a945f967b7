"""The job log of a node's jobs: which rows are in which job, and what became of them. A SQLite database.

What a method has written is on the medium when it returns (``synchronous=FULL``), and the next step of a job begins
after that:

    intend       the job, its key and its rows, and a line in `runs.sent_jobs`: before it is sent
    submitted    the provider's id of it: before it is looked at
    answered     answers, and what they cost, in one transaction: before any row goes on
    collected    all that the provider has of it is here: before it is deleted there
    done         it is deleted there

So after a crash at any point, it is known of every row whether it may be at the provider, and what was paid for is
counted once: the sums are changed by the transaction that brings the answers in. An answer that is there is never
brought in again.
"""

from __future__ import annotations

import sqlite3
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from llm_datagen.llm.batch.job_log_file import JobLogFile
from llm_datagen.llm.batch.records import DROPPED, LOST, UNSEEN, Arrived, NewRow, StoredJob, StoredRow
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.runs.batch_jobs import OPEN, BatchState, usage_in
from llm_datagen.runs.sent_jobs import SentJob

_OPEN = ", ".join(f"'{state}'" for state in OPEN)


class JobLog(JobLogFile):
    """The job log of one node. Methods that write block, and are called on one thread; `latest` may be on another.

    Args:
        path: the file; it is made, with its folder, when it is not there.
    """

    # What is done with a job, step by step.

    def intend(self, key: str, endpoint: str, model: str, rows: Sequence[NewRow], size: int) -> StoredJob:
        """Note that a job is going to be sent, and return it. Its rows have the places 0, 1, 2 and so on.

        Args:
            key: names it.
            endpoint: where it goes.
            model: the model of all rows.
            rows: its rows.
            size: in bytes.

        Raises:
            BatchError: when it cannot be written: then the job must not be sent.
        """
        now = time.time()
        with self._writing() as job_log:
            number = job_log.execute(
                "INSERT INTO jobs (key, endpoint, model, state, rows, bytes, made_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (key, endpoint, model, BatchState.SENDING, len(rows), size, now),
            ).lastrowid
            assert number is not None
            job_log.executemany(
                "INSERT INTO rows (job, place, scope, body, most_picodollars, most_tokens) VALUES (?, ?, ?, ?, ?, ?)",
                [(number, place, row.scope, row.body, *row.most) for place, row in enumerate(rows)],
            )
        self._note_sent(SentJob(key, endpoint, len(rows)))
        return StoredJob(number, key, None, endpoint, model, BatchState.SENDING, len(rows), size, now, None, None)

    def submitted(self, job: int, job_id: str, expires_at: float | None = None) -> None:
        """Note the provider's id of a job.

        Raises:
            BatchError: when it cannot be written: then a resume looks for the job.
        """
        with self._writing() as job_log:
            job_log.execute(
                "UPDATE jobs SET state = ?, job_id = ?, submitted_at = ?, expires_at = ? WHERE number = ?",
                (BatchState.RUNNING, job_id, time.time(), expires_at, job),
            )

    def looked(self, job: int, state: BatchState, succeeded: int, failed: int, expires_at: float | None) -> None:
        """Note what the provider said of a job."""
        with self._writing() as job_log:
            job_log.execute(
                "UPDATE jobs SET state = ?, succeeded = ?, failed = ?, expires_at = ? WHERE number = ?",
                (state, succeeded, failed, expires_at, job),
            )

    def answered(self, job: int, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Note what became of rows, and what it cost; return those of which nothing was known before.

        Raises:
            BatchError: when it cannot be written: then none of it is, and it is asked for again.
        """
        with self._writing() as job_log:
            return [each for each in arrived if self._bring_in(job_log, job, each)]

    def collected(self, job: int, arrived: Sequence[Arrived] = (), why: str = "") -> list[Arrived]:
        """Note that all is here that the provider has of a job; `arrived` says of the other rows what became of them.

        Raises:
            BatchError: when it cannot be written.
        """
        with self._writing() as job_log:
            new = [each for each in arrived if self._bring_in(job_log, job, each)]
            (succeeded,) = job_log.execute(
                "SELECT count(*) FROM rows WHERE job = ? AND outcome = 'answered'", (job,)
            ).fetchone()
            job_log.execute(
                "UPDATE jobs SET state = ?, ended_at = ?, why = ?, succeeded = ?, failed = rows - ? WHERE number = ?",
                (BatchState.COLLECTED, time.time(), why, succeeded, succeeded, job),
            )
        return new

    def done(self, job: int) -> None:
        """Note that a job is deleted at the provider."""
        with self._writing() as job_log:
            job_log.execute("UPDATE jobs SET state = ? WHERE number = ?", (BatchState.DONE, job))

    def dropped(self, job: int, why: str, outcome: str = DROPPED, state: BatchState = BatchState.DROPPED) -> None:
        """Note that a job is not at the provider, or is given up: what its rows were to cost is free again.

        Args:
            job: its number.
            why: for people.
            outcome: of its rows; "lost": they count in full, as they may have been paid for.
            state: that it has then; "collected": the provider still has it, or files of it.

        Raises:
            BatchError: when it cannot be written.
        """
        with self._writing() as job_log:
            if outcome == LOST:
                for what in ("spent", "lost"):
                    job_log.execute(
                        "UPDATE money SET picodollars = picodollars + added.p, tokens = tokens + added.t FROM "
                        "(SELECT coalesce(sum(most_picodollars), 0) AS p, coalesce(sum(most_tokens), 0) AS t "
                        "FROM rows WHERE job = ? AND outcome IS NULL) AS added WHERE what = ?",
                        (job, what),
                    )
            job_log.execute("UPDATE rows SET outcome = ? WHERE job = ? AND outcome IS NULL", (outcome, job))
            job_log.execute(
                "UPDATE jobs SET state = ?, ended_at = ?, why = ? WHERE number = ?",
                (state, time.time(), why, job),
            )

    def forget(self, scopes: Iterable[bytes]) -> None:
        """Let answers that were of no use be asked for anew the next time.

        Raises:
            BatchError: when it cannot be written.
        """
        with self._writing() as job_log:
            job_log.executemany(
                "UPDATE rows SET scope = x'', answer = NULL WHERE scope = ? AND outcome IS NOT NULL",
                [(scope,) for scope in scopes],
            )

    # What is there.

    def latest(self, scope: bytes, body: bytes) -> StoredRow | None:
        """Return the row that was last in a job for a call; None when none was.

        Raises:
            BatchError: when it cannot be read.
        """
        with self._as_batch_error("cannot be read"):
            found = self._reading.execute(
                "SELECT number, job, place, most_picodollars, most_tokens, outcome, status, answer FROM rows "
                "WHERE scope = ? AND body = ? ORDER BY number",
                (scope, body),
            ).fetchall()
        if not found:
            return None
        number, job, place, picodollars, tokens, outcome, status, answer = found[-1]
        text = b"" if answer is None else zlib.decompress(answer)
        tries = sum(each[5] != DROPPED for each in found)
        return StoredRow(number, job, place, Amount(picodollars, tokens), outcome, status or 0, text, tries)

    def endpoint_of(self, scope: bytes) -> tuple[int, str] | None:
        """Return the number of the row that was last in a job for a call, and its endpoint; None when none was."""
        with self._as_batch_error("cannot be read"):
            found: tuple[int, str] | None = self._reading.execute(
                "SELECT rows.number, endpoint FROM rows JOIN jobs ON jobs.number = rows.job WHERE scope = ? "
                "ORDER BY rows.number DESC LIMIT 1",
                (scope,),
            ).fetchone()
        return found

    def unfinished(self) -> list[StoredJob]:
        """Return the jobs with which something is still to be done, the oldest first."""
        return self._jobs(f"state IN ({_OPEN}, '{BatchState.COLLECTED}')")

    def unseen(self, since: float) -> list[StoredJob]:
        """Return the jobs that were dropped as nobody has seen them at the provider, and that were made since then."""
        return self._jobs("state = ? AND why = ? AND made_at >= ?", BatchState.DROPPED, UNSEEN, since)

    def ids(self, endpoint: str, without: int) -> list[str]:
        """Return the provider's ids of all jobs at an endpoint but one."""
        with self._as_batch_error("cannot be read"):
            found = self._reading.execute(
                "SELECT job_id FROM jobs WHERE endpoint = ? AND number <> ? AND job_id IS NOT NULL", (endpoint, without)
            ).fetchall()
        return [str(job_id) for (job_id,) in found]

    def open_rows(self, job: int) -> list[StoredRow]:
        """Return the rows of a job of which nothing came yet."""
        with self._as_batch_error("cannot be read"):
            found = self._reading.execute(
                "SELECT number, job, place, most_picodollars, most_tokens FROM rows WHERE job = ? AND outcome IS NULL",
                (job,),
            ).fetchall()
        return [StoredRow(number, job, place, Amount(*most)) for number, job, place, *most in found]

    def usage(self) -> list[dict[str, Any]]:
        """Return what was used in all, for each provider and model."""
        with self._as_batch_error("cannot be read"):
            return usage_in(self._reading)

    def _jobs(self, where: str, *values: Any) -> list[StoredJob]:
        with self._as_batch_error("cannot be read"):
            found = self._reading.execute(
                "SELECT number, key, job_id, endpoint, model, state, rows, bytes, made_at, submitted_at, expires_at "
                f"FROM jobs WHERE {where} ORDER BY number",
                values,
            ).fetchall()
        return [_job(*row) for row in found]

    @staticmethod
    def _bring_in(job_log: sqlite3.Connection, job: int, arrived: Arrived) -> bool:
        """Write down what became of a row, unless that is known."""
        changed = job_log.execute(
            "UPDATE rows SET outcome = ?, status = ?, answer = ? WHERE job = ? AND place = ? AND outcome IS NULL",
            (arrived.outcome, arrived.status, zlib.compress(arrived.answer, 1), job, arrived.place),
        ).rowcount
        if not changed:
            return False
        for what, amount in (("spent", arrived.cost), ("lost", arrived.lost), ("untold", arrived.lost)):
            if any(amount):
                job_log.execute(
                    "INSERT INTO money VALUES (?, ?, ?) ON CONFLICT (what) DO UPDATE SET "
                    "picodollars = picodollars + excluded.picodollars, tokens = tokens + excluded.tokens",
                    (what, *amount),
                )
        if arrived.usage is not None:
            provider, model = arrived.usage["provider"], arrived.usage["model"]
            job_log.executemany(
                "INSERT INTO usage VALUES (?, ?, ?, ?) "
                "ON CONFLICT (provider, model, name) DO UPDATE SET value = value + excluded.value",
                [
                    (provider, model, name, value)
                    for name, value in arrived.usage.items()
                    if name not in ("provider", "model")
                ],
            )
        return True


def _job(*values: Any) -> StoredJob:
    job = StoredJob(*values)
    job.state = BatchState(job.state)
    return job
