"""How a fake endpoint works on the jobs of its batch APIs, and what goes wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from llm_datagen.errors import ConfigError

_SUBMIT = ("drop_before", "drop_after", "register_late", "error_after")
_REQUEST = ("server_error", "rate_limit", "truncated", "short")
_JOB = ("job_failed", "job_expired", "job_cancelled")
_ROW = ("row_failed", "row_overloaded", "row_lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFaults:
    """Shares of what goes wrong with batch APIs, each from 0 to 1. Those of one kind are at most 1 together.

    Which request, job or row meets which fault depends on the server's seed, and on how often its like has come.

    Attributes:
        drop_before: of submits: the connection is reset, and no job is registered.
        drop_after: of submits: the job is registered, and the connection is reset in place of the acknowledgement.
        register_late: of submits: the connection is reset, and the job is registered `late_s` seconds later.
        error_after: of submits: the job is registered, and the answer is 500.
        server_error: of all requests of batch APIs: answered with 500, and nothing done.
        rate_limit: of them: answered with 429, and nothing done.
        truncated: of downloads: half of the announced bytes, then the connection closes.
        short: of downloads: a whole response without the last half of its lines.
        job_failed: of jobs: they fail as a whole before any row is worked on.
        job_expired: of jobs: they expire when half of their rows are answered.
        job_cancelled: of jobs: somebody cancels them when half of their rows are answered.
        row_failed: of rows: refused, as a bad request.
        row_overloaded: of rows: failed, as the provider was overloaded.
        row_lost: of rows: no answer, though the job ends regularly.
        late_s: seconds until a late job is registered. Not a share.

    Raises:
        ConfigError: when a share is not from 0 to 1, or those of a kind are above 1 together.
    """

    drop_before: float = 0.0
    drop_after: float = 0.0
    register_late: float = 0.0
    error_after: float = 0.0
    server_error: float = 0.0
    rate_limit: float = 0.0
    truncated: float = 0.0
    short: float = 0.0
    job_failed: float = 0.0
    job_expired: float = 0.0
    job_cancelled: float = 0.0
    row_failed: float = 0.0
    row_overloaded: float = 0.0
    row_lost: float = 0.0
    late_s: float = 5.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise ConfigError(f"{each.name} must be a number, 0 or more, not {value!r}")
        for names in (_SUBMIT, _REQUEST[:2], _REQUEST[2:], _JOB, _ROW):
            if sum(getattr(self, name) for name in names) > 1 + 1e-9:
                raise ConfigError(f"the shares {', '.join(names)} of BatchFaults are above 1 together")

    def of_submit(self, draw: float) -> str | None:
        """Return the fault of a submit by a number from 0 to 1; None for none."""
        return self._drawn(_SUBMIT, draw)

    def of_request(self, draw: float) -> str | None:
        """Return the fault of any request before it is carried out."""
        return self._drawn(_REQUEST[:2], draw)

    def of_download(self, draw: float) -> str | None:
        """Return the fault of a download."""
        return self._drawn(_REQUEST[2:], draw)

    def of_job(self, draw: float) -> str | None:
        """Return the fault of a job."""
        return self._drawn(_JOB, draw)

    def of_row(self, draw: float) -> str | None:
        """Return the fault of a row."""
        return self._drawn(_ROW, draw)

    def _drawn(self, names: tuple[str, ...], draw: float) -> str | None:
        for name in names:
            draw -= getattr(self, name)
            if draw < 0:
                return name
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMBatches:
    """How a fake endpoint works on jobs.

    Attributes:
        seconds: that the rows of a job take together, one after the other; 0: they are done at once.
        waits: seconds before the work on a job begins.
        cancelling: seconds between the request to cancel a job and its end.
        window: seconds after which a job expires.
        file_waits: seconds until a file that was sent can be used.
        enqueued_tokens: of prompts, in all jobs that have not ended; None: no limit. OpenAI's API fails a job beyond it
            as a whole, the others answer 429.
        per_page: the most entries of a page of a listing.
        price: US dollars for a million tokens of prompts, and of answers; a job costs half.
        faults: what goes wrong; None: nothing.
        path: a file that keeps files, jobs and bills, so that another server goes on with them; None: in memory.

    Raises:
        ConfigError: on a number that cannot be.
    """

    seconds: float = 0.0
    waits: float = 0.0
    cancelling: float = 0.0
    window: float = 24 * 3600.0
    file_waits: float = 0.0
    enqueued_tokens: int | None = None
    per_page: int = 100
    price: tuple[float, float] = (0.0, 0.0)
    faults: BatchFaults = field(default_factory=BatchFaults)
    path: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "waits", "cancelling", "window", "file_waits"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be seconds, 0 or more, not {getattr(self, name)!r}")
        if self.per_page < 1:
            raise ConfigError(f"per_page must be 1 or more, not {self.per_page!r}")
