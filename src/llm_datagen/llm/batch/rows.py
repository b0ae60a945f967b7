"""Rows and jobs in memory: a job that is being filled, and jobs that are under way."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.llm.batch.records import NewRow, StoredJob
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.http.batch.base import BatchAdapter, BatchItem, custom_id
from llm_datagen.llm.types import ChatRequest


@dataclass(slots=True, eq=False)
class WaitingRow:
    """A row of a job of which no answer came yet.

    Attributes:
        most: the most that it can cost.
        call: the number of its reservation.
        scope: what stands for the call; empty for a row of an earlier process. Also for the next ones.
        body_sum: the checksum of what is sent.
        body: what is sent, until it is.
        request: the call, when it waits in this process.
        done: resolved when it is known what became of the row; None: no call waits for it.
    """

    most: Amount
    call: int
    scope: bytes = b""
    body_sum: bytes = b""
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    request: ChatRequest | None = field(default=None, repr=False)
    done: asyncio.Future[None] | None = None

    def end(self, error: BaseException | None = None) -> None:
        """Wake the call that waits."""
        if self.done is not None and not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)


@dataclass(slots=True, eq=False)
class Job:
    """A job that is under way.

    Attributes:
        stored: what the job log has of it.
        rows: its rows, by their place, of which no answer came yet.
        is_new: whether it was made in this process.
        is_asked_about: whether a call waits, or has waited, for one of its rows.
        is_enqueued: whether its prompts wait at the provider, or are about to.
        is_out: whether the provider has it, as far as was looked.
        given_up: set when it is to be cancelled at the provider.
        is_cancelled: whether that was asked for.
        ends_soon: whether something is under way that takes a moment, and should not be broken off.
    """

    stored: StoredJob
    rows: dict[int, WaitingRow]
    is_new: bool
    is_asked_about: bool = False
    is_enqueued: bool = False
    is_out: bool = False
    given_up: asyncio.Event = field(default_factory=asyncio.Event)
    is_cancelled: bool = False
    ends_soon: bool = False

    @property
    def tokens(self) -> int:
        """About how many tokens its prompts have."""
        return self.stored.bytes // 3


class Filling:
    """A job that is being filled.

    Args:
        adapter: says how large a row is.
        most_rows: rows that it may have.
        most_bytes: bytes that it may have.
        now: a monotonic time, in seconds.

    Attributes:
        key: names the job.
        since: when its first row came.
        size: in bytes.
    """

    def __init__(self, adapter: BatchAdapter, most_rows: int, most_bytes: int, now: float) -> None:
        self.key = secrets.token_hex(12)
        self.since = now
        self.size = 0
        self._adapter = adapter
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._rows: list[WaitingRow] = []

    def takes(self, size: int) -> bool:
        """Return whether there is room for a row of so many bytes."""
        return len(self._rows) < self._most_rows and self.size + size <= self._most_bytes

    def add(self, row: WaitingRow, size: int) -> None:
        """Put a row in."""
        self._rows.append(row)
        self.size += size

    @property
    def is_full(self) -> bool:
        """Whether it has as many rows as it may have."""
        return len(self._rows) >= self._most_rows

    def rows(self) -> list[WaitingRow]:
        """Return the rows for which a call still waits."""
        return [row for row in self._rows if row.done is not None and not row.done.done()]

    def left(self) -> list[WaitingRow]:
        """Return the others."""
        return [row for row in self._rows if row.done is None or row.done.done()]


def new_rows(rows: list[WaitingRow]) -> list[NewRow]:
    """Return rows as the job log takes them."""
    return [NewRow(row.scope, row.body_sum, row.most) for row in rows]


def items_of(job: Job) -> list[BatchItem]:
    """Return the rows of a job as they are sent."""
    return [
        BatchItem(custom_id=custom_id(job.stored.key, place), body=row.body)
        for place, row in job.rows.items()
        if row.body is not None
    ]


class GivenRows:
    """Rows of a job log, by their numbers: a byte for each that there is."""

    def __init__(self) -> None:
        self._given = bytearray()

    def add(self, number: int) -> None:
        """Add a row."""
        if number >= len(self._given):
            self._given.extend(bytes(max(number + 1 - len(self._given), 4096)))
        self._given[number] = 1

    def __contains__(self, number: int) -> bool:
        return number < len(self._given) and bool(self._given[number])
