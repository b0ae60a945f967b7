"""The file of a job log: made, checked, read and written by transactions.

The log of the database (``-wal``) is moved into the file after every transaction: a file that is copied, or kept,
without it, is whole.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from llm_datagen.errors import DatagenError
from llm_datagen.llm.errors import BatchError
from llm_datagen.runs.batch_jobs import APPLICATION_ID, FORMAT
from llm_datagen.runs.sent_jobs import SentJob, check_none_is_lost, note_sent, sent_jobs

_BUSY_SECONDS = 30.0
_NEW = ".new"
_TABLES = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, job_id TEXT, endpoint TEXT NOT NULL, model TEXT NOT NULL,
    state TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, made_at REAL NOT NULL, submitted_at REAL,
    ended_at REAL, expires_at REAL, why TEXT NOT NULL DEFAULT '');
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, job INTEGER NOT NULL, place INTEGER NOT NULL, scope BLOB NOT NULL, body BLOB NOT NULL,
    most_picodollars INTEGER NOT NULL, most_tokens INTEGER NOT NULL, outcome TEXT, status INTEGER, answer BLOB);
CREATE INDEX rows_by_scope ON rows (scope);
CREATE INDEX rows_by_job ON rows (job);
CREATE TABLE money (what TEXT PRIMARY KEY, picodollars INTEGER NOT NULL, tokens INTEGER NOT NULL);
INSERT INTO money VALUES ('spent', 0, 0), ('lost', 0, 0);
CREATE TABLE usage (provider TEXT, model TEXT, name TEXT, value INTEGER NOT NULL, PRIMARY KEY (provider, model, name));
"""


class JobLogFile:
    """A SQLite database whose writes are on the medium when they return.

    Args:
        path: the file; it is made, with its folder, when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open it, or make it.

        Raises:
            BatchError: when it cannot be used, is of another version, or has not all jobs that were sent.
        """
        with self._as_batch_error("cannot be opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                self._check_none_is_lost({})
                self._make()
            self._writer = self._connect(self.path)
            self._check(self._writer)
            self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
            self._writer.execute("PRAGMA synchronous = FULL")
            self._reader = self._connect(self.path)
            jobs = {job[0]: SentJob(*job) for job in self._reader.execute("SELECT key, endpoint, rows FROM jobs")}
            self._check_none_is_lost(jobs)
            listed = {job.key for job in sent_jobs(self.path)}
            new = [job for key, job in jobs.items() if key not in listed]
            if new:  # an older version kept no list; or a crash came between the two
                note_sent(self.path, new)

    def close(self) -> None:
        """Close it. May be called more than once."""
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    @property
    def _reading(self) -> sqlite3.Connection:
        if self._reader is None:
            raise BatchError(f"the job log {self.path} is not open")
        return self._reader

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        if self._writer is None:
            raise BatchError(f"the job log {self.path} is not open")
        with self._as_batch_error("cannot be written"), self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            yield self._writer
        with self._as_batch_error("cannot be written"):
            self._writer.execute("PRAGMA wal_checkpoint(FULL)").fetchone()

    def _note_sent(self, job: SentJob) -> None:
        with self._as_batch_error("cannot be written"):
            note_sent(self.path, [job])

    def _check_none_is_lost(self, jobs: Mapping[str, SentJob]) -> None:
        try:
            check_none_is_lost(self.path, sent_jobs(self.path), jobs)
        except DatagenError as error:
            raise BatchError(str(error)) from error

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)

    def _make(self) -> None:
        """Make it, all at once: a file that is empty has lost what was in it."""
        new = self.path.with_name(f"{self.path.name}{_NEW}")
        for each in ("", "-wal", "-shm", "-journal"):
            new.with_name(f"{new.name}{each}").unlink(missing_ok=True)
        with closing(self._connect(new)) as connection:
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            head = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT};"
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {head} COMMIT;")
        new.replace(self.path)

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == 0 and tables == 0:
            raise sqlite3.DatabaseError("it is empty")
        if application != APPLICATION_ID:
            raise BatchError(f"{self.path} is the database of another program: move it away, then resume")
        if version != FORMAT:
            raise BatchError(
                f"{self.path} is a job log of format {version}, and this version of llm-datagen knows "
                f"{FORMAT}: resume with the version that wrote it"
            )

    @contextmanager
    def _as_batch_error(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise BatchError(
                f"the job log {self.path} {what}: {error} (check the disk, the rights, and that no other "
                "program holds the file, then resume: jobs at the provider are found again)"
            ) from error
        except (sqlite3.DatabaseError, zlib.error) as error:
            raise BatchError(
                f"{self.path} is no job log, or damaged: {error}. Restore it, then resume. Without it, the "
                "rows of jobs at the provider are asked, and paid for, again: cancel these jobs there first, then "
                "delete it"
            ) from error
        except OSError as error:
            raise BatchError(
                f"the job log {self.path} {what}: {error} (check the path and the rights, then resume)"
            ) from error
