"""Calls that are rows of jobs: each waits for its answer, perhaps for a day."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from llm_datagen.errors import StopRun
from llm_datagen.llm.batch.endpoint import EndpointJobs
from llm_datagen.llm.batch.records import DROPPED, StoredRow
from llm_datagen.llm.batch.rows import WaitingRow
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.adapters import ChatAdapter
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.operators.current_rows import current_rows
from llm_datagen.streams.formats.json_text import dumps

_KEY_BYTES = 16
_WHY = {
    "expired": "the job expired before it was done",
    "cancelled": "the job was cancelled before it was done",
    "none": "the job ended without an answer",
    "lost": "the job did not end, or the provider lost it",
}


class NoAnswerInJobError(LLMRequestError):
    """Raised when a job gave no answer for a row that is to be a plain call then."""


class BatchTransport:
    """Puts every call into a job of one endpoint, and waits for its answer.

    A call that is in the job log already is not put into another job: it is answered from there, or waits for the job
    that has it. What a job gave no answer for goes into the next one.

    Args:
        jobs: those of the endpoint.
        adapter: puts requests.
        max_retries: how many jobs may follow the first one for a row without an answer.
        open_http: opens, and closes, what calls the endpoint.
    """

    def __init__(
        self,
        jobs: EndpointJobs,
        adapter: ChatAdapter,
        *,
        max_retries: int,
        open_http: Callable[[], Awaitable[None]],
        close_http: Callable[[], Awaitable[None]],
    ) -> None:
        self._jobs = jobs
        self._node = jobs.node
        self._adapter = adapter
        self._max_retries = max_retries
        self._open_http, self._close_http = open_http, close_http

    async def open(self) -> None:
        """Open the HTTP client, and get the prices ready."""
        await self._jobs.state.money.open()
        await self._open_http()

    async def close(self) -> None:
        """Leave the jobs at the provider, or cancel them; close the HTTP client. May be called more than once."""
        await self._jobs.close()
        await self._close_http()
        await self._jobs.state.money.close()

    def holds(self, request: ChatRequest) -> bool:
        """Return whether a job of this endpoint has the call."""
        return self._node.holds(request.call_key, self._jobs.label)

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Return the answer of a job.

        Raises:
            NoAnswerInJobError: when the job gave none, and the row is to be a plain call.
            LLMRequestError: when there is no answer.
            StopRun: when there is no room in the budget; or the run ends, as all that is in flight is at the provider.
            LLMCancelledError: when the run was cancelled while the call waited.
            FatalError: when the jobs cannot go on.
        """
        started = time.perf_counter()
        body = self._adapter.body(request)
        body_sum = _sum([type(self._adapter).__qualname__, body])
        while True:
            row = self._node.latest(request.call_key, body_sum)
            if row is None:
                most = self._jobs.state.money.most(request)
                call = await self._reserve(most, request)
                await self._jobs.row(WaitingRow(most, call, request.call_key, body_sum, body, request))
                continue
            if row.outcome is None:
                await self._jobs.join(row, request)
                continue
            self._node.given.add(row.number)
            if row.outcome == DROPPED:
                continue
            try:
                return self._answer(row, request, time.perf_counter() - started)
            except LLMRequestError as error:
                if not error.may_pass:
                    raise
                if self._node.batch.fallback == "online":
                    raise NoAnswerInJobError(str(error), may_pass=True, is_free=True) from error
                if row.tries > self._max_retries:
                    error.may_pass = False
                    error.args = (f"{error} (job {row.tries} of {self._max_retries + 1})",)
                    raise

    async def _reserve(self, most: Amount, request: ChatRequest) -> int:
        """Return the number of a reservation.

        Raises:
            StopRun: when there is no room for it, and no row is in flight that is paid for already.
        """
        money = self._jobs.state.money
        while (call := await money.reserve(most, request)) is None:
            if not self._node.rows:
                raise StopRun(money.why_not(most, request))
            await self._node.until_idle()
        return call

    def _answer(self, row: StoredRow, request: ChatRequest, seconds: float) -> ChatAnswer:
        if row.outcome in _WHY:
            raise LLMRequestError(
                f"{request.row} got no answer by a job at {self._jobs.label}: {_WHY[row.outcome]}",
                may_pass=True,
                is_free=True,
            )
        money = self._jobs.state.money
        response = Response(row.status, {}, row.answer, False)
        answer = self._jobs.state.place.answering.answer(response, request, seconds)
        usage = money.believed(answer.usage, request, row.most)
        return replace(answer, usage=usage, cost=money.dollars(usage, request), attempts=max(row.tries, 1))


def call_key_of(request: ChatRequest) -> bytes:
    """Return what stands for a call, also in a later process: the rows that it is for, and what is asked."""
    return _sum([current_rows.get() or request.row, request.sample, request.messages, request.params])


def _sum(value: Any) -> bytes:
    return hashlib.sha256(dumps(value, option=orjson.OPT_SORT_KEYS)).digest()[:_KEY_BYTES]
