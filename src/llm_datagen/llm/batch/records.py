"""What the job log has of jobs and rows. Plain data."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.http.batch.base import SoughtJob
from llm_datagen.runs.batch_jobs import BatchState

DROPPED = "dropped"
"""The outcome of rows whose job is not at the provider: that was no try."""
LOST = "lost"
"""The outcome of rows whose job is given up though it may have been paid for."""
UNKNOWN = "the provider does not know it, or its answers, any more"
"""Why a job was given up that the provider has had."""
UNSEEN = "the provider did not acknowledge it, and does not list it"
"""Why a job was dropped that may have been sent."""


class NewRow(NamedTuple):
    """A row that goes into a job.

    Attributes:
        scope: what stands for the call: its row, and what is asked.
        body: the checksum of what is sent.
        most: the most that it can cost.
    """

    scope: bytes
    body: bytes
    most: Amount


_CLOCK_SECONDS = 23 * 3600.0
"""How far the clock of this machine may be, or have been, ahead."""


@dataclass(slots=True)
class StoredJob:
    """A job, as the job log has it."""

    number: int
    key: str
    job_id: str | None
    endpoint: str
    model: str
    state: BatchState
    rows: int
    bytes: int
    made_at: float
    submitted_at: float | None
    expires_at: float | None

    def sought(self, others: Collection[str]) -> SoughtJob:
        """Return what it is looked for by at the provider.

        Args:
            others: the ids of jobs that are known to be other ones.
        """
        since = min(self.made_at, time.time()) - _CLOCK_SECONDS
        return SoughtJob(key=self.key, rows=self.rows, since=since, others=others)


class StoredRow(NamedTuple):
    """A row of a job, as the job log has it.

    Attributes:
        number: of the row in the job log.
        job: of its job.
        place: of the row in the job.
        most: the most that it can cost.
        outcome: what became of it: a kind of `BatchResult`; "none", no answer came; "lost", one may have been paid for;
            "dropped", the job was not at the provider; None: it is not known yet.
        status: of the result.
        answer: the body of the result; empty when there is none.
        tries: how many jobs have had it.
    """

    number: int
    job: int
    place: int
    most: Amount
    outcome: str | None = None
    status: int = 0
    answer: bytes = b""
    tries: int = 1


class Arrived(NamedTuple):
    """What became of a row, and what it cost.

    Attributes:
        place: of the row in its job.
        outcome: see `StoredRow`.
        status: of the result.
        answer: the body of the result.
        cost: what was spent.
        lost: the part of it for an answer that does not say what it cost.
        usage: what is reported of it: provider, model and numbers.
    """

    place: int
    outcome: str
    status: int = 0
    answer: bytes = b""
    cost: Amount = Amount()
    lost: Amount = Amount()
    usage: Mapping[str, Any] | None = None
