"""Files, jobs and rows of the fake batch APIs, in SQLite. Used from several threads, one at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, number INTEGER, api TEXT, name TEXT, created REAL, body BLOB, deleted REAL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, number INTEGER, api TEXT, key TEXT, model TEXT, endpoint TEXT, input TEXT, rows INTEGER,
    tokens INTEGER, created REAL, told BLOB, fault TEXT, cancelled REAL, ended REAL, word TEXT, why TEXT, output TEXT,
    errors TEXT, deleted REAL);
CREATE TABLE IF NOT EXISTS rows (
    job TEXT, position INTEGER, custom_id TEXT, body BLOB, kind TEXT, status INTEGER, answer BLOB, prompt INTEGER,
    completion INTEGER, PRIMARY KEY (job, position));
CREATE TABLE IF NOT EXISTS numbers (name TEXT PRIMARY KEY, value INTEGER);
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was registered, and what became of it.

    Attributes:
        id: its name.
        number: counts jobs in the order in which they came.
        api: the API that took it.
        key: what its client calls it by; of Anthropic's, what stands in the custom ids.
        model: of its rows.
        endpoint: the path that its rows are for.
        input: the id of its file; empty for none.
        rows: how many.
        tokens: of all prompts.
        created: when it is registered, in seconds since 1970; a late one has a time that is to come.
        told: what else the client told of it.
        fault: what is to go wrong with it; None for nothing.
        cancelled: when its client asked to cancel it; None: it did not.
        ended: when it ended; None: it has not.
        word: how it ended: ``completed``, ``failed``, ``expired`` or ``cancelled``.
        why: a code of why it failed as a whole.
        output: the id of the file of answers; None for none. `errors`: of that with errors.
        deleted: when it was deleted; None: it is there.
    """

    id: str
    number: int
    api: str
    key: str
    model: str
    endpoint: str
    input: str
    rows: int
    tokens: int
    created: float
    told: Mapping[str, Any]
    fault: str | None
    cancelled: float | None
    ended: float | None
    word: str | None
    why: str | None
    output: str | None
    errors: str | None
    deleted: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a job.

    Attributes:
        custom_id: its name.
        body: of the request.
        kind: ``answered``, ``failed``, ``lost``, or how its job ended; None: it has not.
        status: of HTTP; 0 when it is neither answered nor failed.
        answer: a chat completion, or a text that says what is wrong.
    """

    custom_id: str
    body: Any
    kind: str | None
    status: int | None
    answer: Any


class Store:
    """Keeps files and jobs.

    Args:
        path: of the file; None: in memory.
    """

    def __init__(self, path: str | Path | None) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # it is to outlive processes, not a power cut
        self._db.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Do what is in the block as one step."""
        with self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def number(self, name: str) -> int:
        """Return how often this was asked for this name, this time counted."""
        with self.transaction() as db:
            db.execute("INSERT INTO numbers VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", (name,))
            found: int = db.execute("SELECT value FROM numbers WHERE name = ?", (name,)).fetchone()[0]
            return found

    def add_file(self, file_id: str, api: str, name: str, created: float, body: bytes) -> None:
        """Keep a file."""
        with self.transaction() as db:
            values = (file_id, self.number("file"), api, name, created, body, None)
            db.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def files(self) -> list[tuple[str, str, str, float, int]]:
        """Return id, API, name, time and bytes of the files that were not deleted, the newest first."""
        with self.transaction() as db:
            return db.execute(
                "SELECT id, api, name, created, length(body) FROM files WHERE deleted IS NULL ORDER BY number DESC"
            ).fetchall()

    def file_body(self, file_id: str) -> bytes | None:
        """Return what is in a file; None when it is not there."""
        with self.transaction() as db:
            found = db.execute("SELECT body FROM files WHERE id = ? AND deleted IS NULL", (file_id,)).fetchone()
            return None if found is None else bytes(found[0])

    def delete_file(self, file_id: str, now: float) -> bool:
        """Delete a file, and return whether it was there."""
        with self.transaction() as db:
            done = db.execute(
                "UPDATE files SET deleted = ?, body = '' WHERE id = ? AND deleted IS NULL", (now, file_id)
            )
            return done.rowcount == 1

    def deleted_at(self, file_id: str) -> float | None:
        """Return when a file was deleted; None: it is there, or never was."""
        with self.transaction() as db:
            found: tuple[float | None] | None = db.execute(
                "SELECT deleted FROM files WHERE id = ?", (file_id,)
            ).fetchone()
            return None if found is None else found[0]

    def add_job(self, job: Job, rows: Sequence[tuple[str, Any]]) -> None:
        """Keep a job with its rows: their custom ids and bodies."""
        with self.transaction() as db:
            named = {name: getattr(job, name) for name in Job.__slots__} | {"told": orjson.dumps(job.told)}
            values = list(named.values())
            db.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * len(values))})", values)
            db.executemany(
                "INSERT INTO rows (job, position, custom_id, body) VALUES (?, ?, ?, ?)",
                [(job.id, at, custom_id, orjson.dumps(body)) for at, (custom_id, body) in enumerate(rows)],
            )

    def set_job(self, job_id: str, **values: Any) -> None:
        """Set columns of a job."""
        with self.transaction() as db:
            names = ", ".join(f"{name} = ?" for name in values)
            db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*values.values(), job_id))

    def jobs(self) -> list[Job]:
        """Return all jobs, also deleted and late ones, the newest first."""
        with self.transaction() as db:
            found = db.execute("SELECT * FROM jobs ORDER BY created DESC, number DESC").fetchall()
        return [_job(values) for values in found]

    def job(self, job_id: str) -> Job | None:
        """Return a job; None when there is none."""
        with self.transaction() as db:
            found = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return found and _job(found)

    def rows(self, job_id: str) -> list[Row]:
        """Return the rows of a job, as they came."""
        with self.transaction() as db:
            found = db.execute(
                "SELECT custom_id, body, kind, status, answer FROM rows WHERE job = ? ORDER BY position", (job_id,)
            ).fetchall()
        return [
            Row(custom_id, orjson.loads(body), kind, status, answer and orjson.loads(answer))
            for custom_id, body, kind, status, answer in found
        ]

    def kinds(self, job_id: str) -> Counter[str | None]:
        """Return how many rows of a job there are of each `Row.kind`."""
        with self.transaction() as db:
            return Counter(dict(db.execute("SELECT kind, count(*) FROM rows WHERE job = ? GROUP BY kind", (job_id,))))

    def set_rows(self, job_id: str, results: Sequence[tuple[str, int, Any, int, int]]) -> None:
        """Set kind, status, answer and tokens of a job's rows, as they came."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE rows SET kind = ?, status = ?, answer = ?, prompt = ?, completion = ? "
                "WHERE job = ? AND position = ?",
                [
                    (kind, status, orjson.dumps(answer), prompt, completion, job_id, at)
                    for at, (kind, status, answer, prompt, completion) in enumerate(results)
                ],
            )

    def billed(self) -> list[tuple[str, str, Any, int, int]]:
        """Return job, custom id, body and tokens of prompt and answer of the rows that were answered."""
        with self.transaction() as db:
            found = db.execute(
                "SELECT job, custom_id, body, prompt, completion FROM rows WHERE kind = 'answered'"
            ).fetchall()
        return [(job, custom_id, orjson.loads(body), *tokens) for job, custom_id, body, *tokens in found]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _job(values: Sequence[Any]) -> Job:
    named = dict(zip(Job.__slots__, values, strict=True))
    return Job(**named | {"told": orjson.loads(named["told"])})
