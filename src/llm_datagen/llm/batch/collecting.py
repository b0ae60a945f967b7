"""Brings the results of a job in: a few hundred at a time, in whatever order they come, each of them once."""

from __future__ import annotations

from typing import Any

from llm_datagen.llm.batch.endpoint_state import EndpointState
from llm_datagen.llm.batch.records import Arrived
from llm_datagen.llm.batch.rows import Job, WaitingRow
from llm_datagen.llm.cost.budget import Amount
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.batch.base import BatchResult, key_of
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.types import ChatRequest
from llm_datagen.streams.formats.json_text import dumps

_ROWS, _BYTES = 500, 4 << 20
"""What is brought in at once, about."""


class Collecting:
    """Brings one job in. Used on the event loop of the node.

    Args:
        jobs: those of the endpoint.
        job: the job.

    Attributes:
        answered: rows with an answer that were brought in.
    """

    def __init__(self, jobs: EndpointState, job: Job) -> None:
        self._jobs = jobs
        self._job = job
        self._waiting: dict[int, Arrived] = {}
        self._size = 0
        self.answered = 0

    async def add(self, result: BatchResult) -> None:
        """Take a result. One that is there already, or is of another job, changes nothing.

        Raises:
            BatchError: when it cannot be written down.
        """
        key, number = key_of(result.custom_id), result.custom_id.rpartition("-")[2]
        place = int(number) if key == self._job.stored.key else -1
        row = self._job.rows.get(place)
        if row is None or place in self._waiting:
            return
        self._waiting[place] = arrived = self._arrived(place, row, result)
        self._size += len(arrived.answer)
        if len(self._waiting) >= _ROWS or self._size >= _BYTES:
            await self._bring_in()

    async def keep(self) -> None:
        """Bring in what has come, as the rest does not.

        Raises:
            BatchError: when it cannot be written down.
        """
        if self._waiting:
            await self._bring_in()

    async def end(self, why: str) -> None:
        """All results have come: rows without one got no answer.

        Args:
            why: what is wrong with the job; empty: nothing.

        Raises:
            BatchError: when it cannot be written down.
        """
        rest = [Arrived(place, "none") for place in self._job.rows if place not in self._waiting]
        arrived, self._waiting = [*self._waiting.values(), *rest], {}
        node = self._jobs.node
        self._settle(await node.write(node.job_log.collected, self._job.stored.number, arrived, why))

    async def _bring_in(self) -> None:
        arrived, self._waiting, self._size = [*self._waiting.values()], {}, 0
        node = self._jobs.node
        self._settle(await node.write(node.job_log.answered, self._job.stored.number, arrived))

    def _settle(self, arrived: list[Arrived]) -> None:
        """Count what has come, and wake the calls that wait for it. It is on the disk."""
        money, node = self._jobs.money, self._jobs.node
        node.report([each.usage for each in arrived if each.usage is not None])
        for each in arrived:
            row = self._job.rows.pop(each.place, None)
            if row is None:
                continue
            self.answered += each.outcome == "answered"
            money.settle(row.call, node.request, each.cost, is_lost=any(each.lost), is_answered=True)
            row.end()
        if not self._job.rows:  # nothing keeps the run from ending, and the job is not deleted yet
            self._job.ends_soon = True

    def _safe(self, value: Any) -> Any:
        """Return what a provider says of a failure, without secrets."""
        match value:
            case str():
                return self._jobs.place.http.safe(value, _BYTES)
            case list():
                return [self._safe(each) for each in value]
            case dict():
                return {self._safe(name): self._safe(each) for name, each in value.items()}
        return value

    def _arrived(self, place: int, row: WaitingRow, result: BatchResult) -> Arrived:
        if result.kind in ("expired", "cancelled"):
            return Arrived(place, result.kind)
        content = dumps(result.body if result.kind == "answered" else self._safe(result.body))
        request = row.request or ChatRequest(messages=(), params={}, model=self._job.stored.model)
        try:
            usage = self._jobs.place.answering.answer(Response(result.status, {}, content, False), request, 0.0).usage
            is_served = True
        except LLMRequestError as error:
            usage, is_served = error.usage, error.is_served
        money = self._jobs.money
        usage = money.believed(usage, request, row.most)
        cost = money.cost(usage, request)
        is_paid = is_served or cost is not None
        lost = row.most if cost is None and is_served else Amount()
        if not money.has_budget:
            cost = lost = Amount()
        return Arrived(
            place,
            result.kind,
            result.status,
            content,
            cost=lost if cost is None else cost,
            lost=lost,
            usage=money.reported(usage, request) if is_paid else None,
        )
