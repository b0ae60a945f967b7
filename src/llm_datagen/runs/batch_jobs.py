"""The jobs of a run at batch APIs of providers, as the job logs of its nodes tell of them.

    files/jobs/node_1.sqlite    a job log: jobs, the rows in each, and the answers that have come
    files/sent_jobs/            by it, a job log that is gone is noticed; see `sent_jobs`

Who writes them is `llm.batch.job_log`. Here they are read, by any process, while they are written or later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from llm_datagen.errors import DatagenError
from llm_datagen.runs import sent_jobs
from llm_datagen.runs.usage import COST, PICO
from llm_datagen.runs.words import rows_in_words

if TYPE_CHECKING:
    import sqlite3

FOLDER = "jobs"
ENDING = ".sqlite"
APPLICATION_ID = 0x4C4C4442
FORMAT = 1

DETACH_VARIABLE = "LLM_DATAGEN_DETACH"
"""The environment variable that says, as `Batch.detach` does, that a run is to end when its rows are in jobs."""


class BatchState(StrEnum):
    """How far a job is."""

    SENDING = "sending"
    """It is on the disk, and on its way; or it was, and whether it arrived is not known yet."""
    RUNNING = "running"
    """The provider has it."""
    CANCELLING = "cancelling"
    """The provider was asked to cancel it."""
    COLLECTED = "collected"
    """All that the provider has of it is on the disk."""
    DONE = "done"
    """It is deleted at the provider, too."""
    DROPPED = "dropped"
    """It never was at the provider, or is given up: its rows go on without it."""


OPEN = (BatchState.SENDING, BatchState.RUNNING, BatchState.CANCELLING)
"""States of a job of which answers may still come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """A job.

    Attributes:
        node_id: the node whose rows it has.
        key: what the run knows it by.
        job_id: what the provider knows it by; None while that is not known.
        endpoint: where it is.
        model: the model that answers.
        state: how far it is.
        rows: its rows.
        succeeded: rows with an answer, so far.
        failed: rows without one: failed, expired or cancelled, so far.
        made_at: when it was made, in seconds since 1970.
        submitted_at: when the provider had it; None: not yet.
        ended_at: when it had ended; None: not yet.
        expires_at: when the provider gives it up; None when it does not say.
        why: what is wrong with it; empty: nothing.
    """

    node_id: str
    key: str
    job_id: str | None
    endpoint: str
    model: str
    state: BatchState
    rows: int
    succeeded: int
    failed: int
    made_at: float
    submitted_at: float | None
    ended_at: float | None
    expires_at: float | None
    why: str

    @property
    def is_open(self) -> bool:
        """Whether answers may still come."""
        return self.state in OPEN

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "state": str(self.state)}


class JobMoney(NamedTuple):
    """What the jobs of job logs cost, in picodollars and tokens.

    Attributes:
        spent: for answers that came.
        lost: the part of it of which nobody knows whether it was that much: the answers never came, or do not say.
        held: what rows may yet cost of which no answer came.
        untold: the part of `lost` that went to answers that came.
    """

    spent: tuple[int, int]
    lost: tuple[int, int]
    held: tuple[int, int]
    untold: tuple[int, int]


def job_log_path(files: Path, node_id: str) -> Path:
    """Return where the job log of a node lies.

    Args:
        files: where the operators of the run keep their files.
        node_id: the node.
    """
    return files / FOLDER / (quote(node_id, safe="") + ENDING)


def job_logs(files: Path) -> list[tuple[str, Path]]:
    """Return the job logs that there are: node and path."""
    folder = files / FOLDER
    paths = sorted(folder.glob(f"*{ENDING}")) if folder.is_dir() else []
    return [(unquote(path.name.removesuffix(ENDING)), path) for path in paths]


def _all_logs(files: Path) -> list[tuple[str, Path]]:
    """Return the job logs that there are, and those of which only the list of sent jobs is left."""
    lists = files / sent_jobs.FOLDER
    names = [path.stem for path in lists.iterdir()] if lists.is_dir() else []
    gone = [(unquote(name), files / FOLDER / f"{name}{ENDING}") for name in sorted(names)]
    return sorted({*job_logs(files), *gone})


def stamp_of(files: Path) -> tuple[int, ...]:
    """Return numbers that change when a job log does."""
    found = []
    for _, path in job_logs(files):
        for each in (path, path.with_name(f"{path.name}-wal")):
            with contextlib.suppress(OSError):
                stat = each.stat()
                found += [stat.st_ino, stat.st_mtime_ns, stat.st_size]
    return tuple(found)


def jobs_of(*folders: Path) -> list[BatchJob]:
    """Return the jobs of a run, the oldest first.

    Args:
        folders: where its operators keep their files; of a run in shards, of each.

    Raises:
        DatagenError: when a job log cannot be read, or is gone, or an older copy.
    """
    found = []
    for node_id, path in (each for files in folders for each in _all_logs(files)):
        jobs = []
        sent = sent_jobs.sent_jobs(path)
        if path.exists():
            with _reading(path) as job_log:
                jobs = [
                    BatchJob(node_id=node_id, **{**dict(row), "state": BatchState(row["state"])})
                    for row in job_log.execute(
                        "SELECT key, job_id, endpoint, model, state, rows, succeeded, failed, made_at, submitted_at, "
                        "ended_at, expires_at, why FROM jobs ORDER BY number"
                    )
                ]
        sent_jobs.check_none_is_lost(path, sent, {job.key for job in jobs})
        found += jobs
    return sorted(found, key=lambda job: job.made_at)


def money_of(path: Path) -> JobMoney:
    """Return what the jobs of a job log cost.

    Raises:
        DatagenError: when it cannot be read.
    """
    with _reading(path) as job_log:
        money = {what: (p, t) for what, p, t in job_log.execute("SELECT what, picodollars, tokens FROM money")}
        held = tuple(
            job_log.execute(
                "SELECT coalesce(sum(most_picodollars), 0), coalesce(sum(most_tokens), 0) FROM rows "
                "WHERE outcome IS NULL"
            ).fetchone()
        )
    return JobMoney(money["spent"], money["lost"], held, money.get("untold", (0, 0)))


def usage_of(files: Path, node_id: str) -> list[dict[str, Any]]:
    """Return what the jobs of a node have used, for each provider and model, as the run state has it.

    Raises:
        DatagenError: when its job log cannot be read.
    """
    path = job_log_path(files, node_id)
    if not path.exists():
        return []
    with _reading(path) as job_log:
        return usage_in(job_log)


def usage_in(job_log: sqlite3.Connection) -> list[dict[str, Any]]:
    """Return the same, of a job log that is open."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for provider, model, name, value in job_log.execute("SELECT provider, model, name, value FROM usage"):
        entry = sums.setdefault((provider, model), {"provider": provider, "model": model})
        entry[name] = value / PICO if name == COST else value
    return list(sums.values())


def in_words(jobs: Sequence[BatchJob]) -> str:
    """Return how the jobs of a run stand, in a line; empty when there are none."""
    if not jobs:
        return ""
    waiting = [job for job in jobs if job.is_open and job.state is not BatchState.CANCELLING]
    cancelled = [job for job in jobs if job.state is BatchState.CANCELLING]
    ended = sum(job.state in (BatchState.COLLECTED, BatchState.DONE) for job in jobs)
    parts = [f"{ended:,} collected"] if ended else []
    parts += [
        f"{len(some):,} {where} ({_rows_of(some)})"
        for some, where in ((waiting, "at the provider"), (cancelled, "being cancelled"))
        if some
    ]
    dropped = len(jobs) - len(waiting) - len(cancelled) - ended
    if dropped:
        parts.append(f"{dropped:,} dropped")
    return ", ".join(parts)


def _rows_of(jobs: Sequence[BatchJob]) -> str:
    rows, done = rows_in_words(sum(job.rows for job in jobs)), sum(job.succeeded + job.failed for job in jobs)
    return f"{rows}, {done:,} of them done" if done else rows


def what_follows(jobs: Sequence[BatchJob]) -> str:
    """Return what becomes of the open jobs of a run that has ended, behind `in_words`; empty when none is open."""
    states = {job.state for job in jobs if job.is_open}
    if not states:
        return ""
    if BatchState.CANCELLING not in states:
        return "; these go on, and a resume collects them"
    return "; a resume collects " + ("what was answered" if len(states) == 1 else "them")


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    import sqlite3

    try:
        # What a kill has left half-written, beside it, is taken back first, which is to write.
        mode = "rw" if path.with_name(f"{path.name}-journal").exists() else "ro"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=10.0)) as job_log:
            job_log.row_factory = sqlite3.Row
            (version,) = job_log.execute("PRAGMA user_version").fetchone()
            if version > FORMAT:
                raise DatagenError(
                    f"{path} is a job log of format {version}, and this version of llm-datagen knows {FORMAT}: "
                    "use the version that wrote it"
                )
            yield job_log
    except sqlite3.Error as error:
        raise DatagenError(
            f"the job log {path} cannot be read: {error}. Restore it, or the rights to read it; without it, the rows "
            "of jobs at the provider are asked, and paid for, again"
        ) from error
