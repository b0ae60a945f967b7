"""What a job of a batch API is, and what an adapter does with it. Plain data, and one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol

from yarl import URL

from llm_datagen.llm.errors import LLMRequestError

MAX_KEY_CHARS = 40
"""The longest key of a job: a custom id, the key with a number behind it, may have 64 characters."""
_NUMBER_CHARS = MAX_KEY_CHARS
CLOCK_SKEW_S = 3600.0
"""Seconds by which the clock of a provider may differ from that of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchItem:
    """A row of a job.

    Attributes:
        custom_id: names the row within the job: `custom_id` of the job's key and a number.
        body: the body of the request, as `ChatAdapter.body` made it.
    """

    custom_id: str
    body: Mapping[str, Any] = field(repr=False)


class JobState(StrEnum):
    """What a job is doing. Once it has ended, its results can be read, also after it expired or was cancelled."""

    WAITING = "waiting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a provider says of a job.

    Attributes:
        job_id: the provider's name of it.
        state: what it is doing.
        total: rows; 0 while the provider has not counted them.
        succeeded: rows with an answer, so far.
        failed: rows that failed, expired or were cancelled, so far.
        created_at: seconds since 1970, by the provider's clock.
        expires_at: the same, when it stops working on the job; None when not said.
        key: what `BatchAdapter.submit` was given; None when the provider cannot tell, see `BatchAdapter.find`.
        why: why it failed as a whole, so that it has no results; empty: it did not.
        may_pass: whether the rows of a job that failed as a whole may succeed in another job later, such as when too
            many tokens were waiting.
        unknown: the provider's word for what it is doing, when it is none that is known: it is taken to be running.
    """

    job_id: str
    state: JobState
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    created_at: float = 0.0
    expires_at: float | None = None
    key: str | None = None
    why: str = ""
    may_pass: bool = False
    unknown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a row.

    Attributes:
        custom_id: the row's.
        kind: ``answered``: `body` is what `ChatAdapter.read` reads; ``failed``: the row's own failure; ``expired`` and
            ``cancelled``: nothing was done, and nothing is billed.
        status: 200 of an answer; of a failure, the HTTP status that it amounts to; 0 of the others.
        body: the JSON of the answer, or of the error; None when there is none.
    """

    custom_id: str
    kind: Literal["answered", "failed", "expired", "cancelled"]
    status: int = 0
    body: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What one job may hold.

    Attributes:
        rows: at most.
        bytes: at most, of all rows as `BatchAdapter.line` puts them, with one byte more for each.
    """

    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoughtJob:
    """A job that may have been registered, though its id did not come back.

    Attributes:
        key: what it was submitted with.
        rows: how many it has.
        since: when that was tried first, in seconds since 1970, by this machine's clock.
        others: the ids of jobs that are known to be other ones.
    """

    key: str
    rows: int
    since: float
    others: Collection[str] = frozenset()

    def may_be(self, created_at: float) -> bool:
        """Return whether a job made then, in seconds since 1970 by the provider's clock, may be it."""
        return created_at >= self.since - CLOCK_SKEW_S


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What an API answered.

    Attributes:
        data: the parsed JSON of the body; None when it is empty.
        headers: of the response.
    """

    data: Any
    headers: Mapping[str, str]


class BatchHttp(Protocol):
    """How the adapters call the API of an endpoint: with its key, certificates, proxy and bounds.

    A path stands behind `base`, such as ``/batches?limit=100``; a URL of the same host may stand in its place.

    Attributes:
        base: the `base_url` that the user gave, or that the adapter has.
    """

    base: URL

    async def request(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        pieces: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Send a request, and return what came back with a status of success.

        Args:
            method: of HTTP.
            path: where to.
            data: sent as JSON, unless it is None.
            pieces: in the place of `data`: the body in pieces, gone through twice. Say its ``Content-Type``.
            headers: more headers.

        Raises:
            LLMRequestError: when no answer came back. `is_free` says that it has surely changed nothing there.
        """

    def records(self, path: str) -> AsyncGenerator[Any, None]:
        """Yield the JSON of each line of a file, as it comes. Ends in an error when the file is cut off, or damaged.

        Raises:
            LLMRequestError: when no file comes back, or not the whole.
        """

    def safe(self, text: str, most: int = 300) -> str:
        """Return a text of the provider as it may be shown, or kept: without secrets, in one line, not too long.

        Args:
            text: as it came.
            most: characters that are kept.
        """


class CancelRefusedError(LLMRequestError):
    """Raised when a provider does not cancel a job that has not ended, as far as is known."""


class BatchAdapter(ABC):
    """How the batch API of one provider is spoken. An instance may serve many jobs at once, and keeps no state.

    All methods run on the event loop of the node. Those that call the provider raise `LLMRequestError`: ``may_pass``
    says that the same call may succeed later, status 404 that there is no such job (any more), or that its results are
    gone.

    Attributes:
        limits: what one job may hold.
        is_keyed: whether the provider keeps the key of a job where a listing shows it at once; otherwise a job that has
            not ended can only be told by its number of rows, see `find`.
        price_factor: what a request costs in a job, as a share of the plain price.
    """

    limits: BatchLimits
    is_keyed: bool = True
    price_factor: float = 0.5

    @abstractmethod
    def line(self, item: BatchItem) -> bytes:
        """Return a row as it is sent, as JSON without a line break. Its length counts for `limits`."""

    @abstractmethod
    async def submit(self, http: BatchHttp, items: Sequence[BatchItem], *, key: str, model: str) -> str:
        """Register a job, and return its id. The file with the rows, where there is one, has the key in its name.

        Args:
            http: calls the endpoint.
            items: the rows, all for one model. Gone through more than once.
            key: names the job; see `checked_key`. Use a key for one submit only.
            model: the model of all rows.

        Raises:
            LLMRequestError: with ``is_free``: no job was registered. Otherwise there may be one, now or minutes later:
                `find` it, and `withdraw` it before its rows are sent again.
        """

    @abstractmethod
    async def find(self, http: BatchHttp, sought: SoughtJob) -> list[JobStatus]:
        """Return the jobs that were registered with a key, the oldest first, by listing the provider's jobs.

        Where `is_keyed` is false, a job that has not ended and has as many rows is returned, too, with ``key=None``: it
        may be this one, or anyone's. It must not be cancelled, and the rows must not be sent again, until it has ended
        and `find` tells.
        """

    @abstractmethod
    async def status(self, http: BatchHttp, job_id: str) -> JobStatus:
        """Return what a job is doing."""

    @abstractmethod
    def results(self, http: BatchHttp, job_id: str) -> AsyncGenerator[BatchResult, None]:
        """Yield what became of the rows of a job that has ended, in any order. A row may come twice, and the same.

        Each result is whole, whatever happens to those behind it. A row of which nothing comes by the regular end got
        no answer. None of a job that failed as a whole.

        Raises:
            LLMRequestError: also when fewer rows come than the provider counts.
        """

    @abstractmethod
    async def cancel(self, http: BatchHttp, job_id: str) -> None:
        """Ask for a job to be cancelled. It goes on for a while, and may end with answers. No error when it ended.

        Raises:
            CancelRefusedError: when it has not ended, as far as is known, and cannot be cancelled.
        """

    @abstractmethod
    async def delete(self, http: BatchHttp, job_id: str) -> None:
        """Delete a job that has ended, and its files, as far as the API can. No error when they are gone."""

    @abstractmethod
    async def withdraw(self, http: BatchHttp, key: str) -> None:
        """Delete the files that were uploaded for a key. For one whose job is collected, or is not wanted any more.

        A job of this key that is registered after that has nothing to work on, where the API has files. No error when
        there are none.
        """


def custom_id(key: str, number: int) -> str:
    """Return the custom id of a row: the key of its job, and the number of the row in it."""
    return f"{key}-{number}"


def key_of(custom_id: str) -> str:
    """Return the key in a custom id; empty when there is none."""
    key, _, number = custom_id.rpartition("-")
    return key if number.isascii() and number.isdecimal() and len(number) < _NUMBER_CHARS else ""


def checked_key(key: str) -> str:
    """Return a key of a job that every provider takes: letters, digits, ``-`` and ``_`` of ASCII, 8 to 40 of them.

    Raises:
        ValueError: when it is none.
    """
    is_plain = key.isascii() and all(char.isalnum() or char in "-_" for char in key)
    if not is_plain or not 8 <= len(key) <= MAX_KEY_CHARS:
        raise ValueError(f"a key of a job has 8 to {MAX_KEY_CHARS} letters, digits, '-' and '_', not {key!r}")
    return key
