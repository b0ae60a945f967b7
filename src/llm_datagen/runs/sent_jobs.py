"""The jobs that a node has sent, beside its job log: by them, a job log that is gone, or an older copy, is noticed.

    files/sent_jobs/node_1.jsonl    a line for each job: its key, where it goes, its rows

A line is on the medium before its job is sent, and after the job log has the job. So the job log has all of them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from llm_datagen.errors import DatagenError
from llm_datagen.runs.words import jobs_in_words
from llm_datagen.streams.formats.json_text import dumps

FOLDER = "sent_jobs"


class SentJob(NamedTuple):
    """A job that was sent, or was about to be.

    Attributes:
        key: what the run knows it by.
        endpoint: where it goes.
        rows: its rows.
    """

    key: str
    endpoint: str
    rows: int


class LostJobsError(DatagenError):
    """Raised when jobs were sent that the job log does not have."""


def list_path(job_log: Path) -> Path:
    """Return where the list lies that belongs to a job log."""
    return job_log.parent.parent / FOLDER / f"{job_log.stem}.jsonl"


def sent_jobs(job_log: Path) -> list[SentJob]:
    """Return the jobs that were sent. A line that a crash has cut off is none: its job was not sent yet.

    Args:
        job_log: the path of the job log.

    Raises:
        DatagenError: when the list cannot be read, or a whole line of it is none.
    """
    path = list_path(job_log)
    try:
        lines = path.read_bytes().split(b"\n") if path.exists() else []
    except OSError as error:
        raise DatagenError(f"the list of sent jobs {path} cannot be read: {error}") from error
    found = []
    for line in lines:
        try:
            entry = orjson.loads(line)
            found.append(SentJob(str(entry["key"]), str(entry["endpoint"]), int(entry["rows"])))
        except (ValueError, LookupError, TypeError) as error:
            if line.endswith(b"}"):  # it was not cut off
                raise DatagenError(
                    f"the list of sent jobs {path} is damaged: {line[:100]!r} is no entry of it. Restore it; or, when "
                    f"the job log {job_log} is whole, delete the list"
                ) from error
    return found


def note_sent(job_log: Path, jobs: Sequence[SentJob]) -> None:
    """Add jobs to the list. They are on the medium when this returns.

    Raises:
        OSError: when that fails.
    """
    path = list_path(job_log)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        # The first break ends a line that a crash has cut off.
        file.write(b"\n" + b"".join(dumps(job._asdict()) + b"\n" for job in jobs))
        file.flush()
        os.fsync(file.fileno())


def check_none_is_lost(job_log: Path, sent: Sequence[SentJob], keys: Collection[str]) -> None:
    """Check that a job log has all jobs that were sent.

    Args:
        job_log: its path.
        sent: the list. It is read before the job log: a run that goes on writes a job there first.
        keys: the keys of the jobs that the job log has.

    Raises:
        LostJobsError: when it has not.
    """
    lost = [job for job in sent if job.key not in keys]
    if lost:
        path, what = list_path(job_log), "is an older copy" if job_log.exists() else "is gone"
        raise LostJobsError(
            f"the job log {job_log} {what}: {jobs_in_words(len(lost), sum(job.rows for job in lost))} sent to "
            f"{lost[0].endpoint} {'is' if len(lost) == 1 else 'are'} not in it. Restore it, then resume. Without it, "
            "their rows are asked, and paid for, again: look for the jobs at the provider by their keys, such as "
            f"{lost[-1].key}, cancel them there, then delete {path}"
        )
