"""Calls that come together are made as one request: many rows cost one round trip, and one of the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llm_datagen.errors import FatalError
from llm_datagen.llm.cost.shares import shared_out
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.transport import Layer, Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest

_TOO_MANY = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How many calls become one request.

    Attributes:
        size: the most texts of a request.
        seconds: how long the first text waits for others.
    """

    size: int
    seconds: float


@dataclass(slots=True)
class _Gathered:
    """Texts that become a request, and who waits for their vectors."""

    requests: list[ChatRequest] = field(default_factory=list)
    waiting: list[asyncio.Future[ChatAnswer]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class BatchLayer(Layer):
    """Makes calls for one text each as requests for many, and gives each its vector, and its part of the usage.

    A request that fails is made again in halves, down to a single text: so a text that is refused fails alone, and a
    text whose vector is bad is asked for again by itself.

    Args:
        inner: makes a request, with all its tries.
        batching: how many texts, and how long the first one waits.
    """

    def __init__(self, inner: Transport, batching: Batching) -> None:
        super().__init__(inner)
        self._batching = batching
        self._gathered: _Gathered | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, together with those that come at the same time.

        Raises:
            LLMError: when there is no vector for its text.
        """
        loop = asyncio.get_running_loop()
        gathered = self._gathered
        if gathered is None:
            gathered = self._gathered = _Gathered()
            gathered.timer = loop.call_later(self._batching.seconds, self._send, gathered)
        waiting: asyncio.Future[ChatAnswer] = loop.create_future()
        gathered.requests.append(request)
        gathered.waiting.append(waiting)
        if len(gathered.requests) >= self._batching.size:
            self._send(gathered)
        return await waiting

    async def close(self) -> None:
        """Give up what is under way, then close the inner transport. May be called more than once."""
        gathered, self._gathered = self._gathered, None
        if gathered is not None and gathered.timer is not None:
            gathered.timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await super().close()

    def _send(self, gathered: _Gathered) -> None:
        if self._gathered is gathered:
            self._gathered = None
        if gathered.timer is not None:
            gathered.timer.cancel()
        task = asyncio.get_running_loop().create_task(self._make(gathered.requests, gathered.waiting))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, requests: Sequence[ChatRequest], waiting: Sequence[asyncio.Future[ChatAnswer]]) -> None:
        """Make one request, and resolve who waits for it."""
        wanted = [number for number, each in enumerate(waiting) if not each.done()]  # the others were cancelled
        if not wanted:
            return
        requests, waiting = [requests[number] for number in wanted], [waiting[number] for number in wanted]
        try:
            answer = await self._inner.complete(_together(requests))
        except asyncio.CancelledError:
            for each in waiting:
                each.cancel()
            raise
        except LLMRequestError as error:
            if len(requests) > 1 and _may_be_of_one(error):
                middle = len(requests) // 2
                await self._make(requests[:middle], waiting[:middle])
                await self._make(requests[middle:], waiting[middle:])
                return
            _fail(waiting, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, each row that waits raises it
            _fail(waiting, error)
        else:
            await self._give(answer, requests, waiting)

    async def _give(
        self, answer: ChatAnswer, requests: Sequence[ChatRequest], waiting: Sequence[asyncio.Future[ChatAnswer]]
    ) -> None:
        parts = _parts(answer, requests)
        bad = []
        for number, (part, each) in enumerate(zip(parts, waiting, strict=True)):
            if part is None:
                bad.append(number)
            elif not each.done():
                each.set_result(part)
        for number in bad:
            await self._make([requests[number]], [waiting[number]])


def _together(requests: Sequence[ChatRequest]) -> ChatRequest:
    """Return one request for all texts."""
    first = requests[0]
    if len(requests) == 1:
        return first
    messages = [message for request in requests for message in request.messages]
    return replace(first, messages=messages, row=f"{len(requests)} texts, of {first.row} to {requests[-1].row}")


def _may_be_of_one(error: LLMRequestError) -> bool:
    """Return whether one of the texts may be what a request failed of: then the others need not."""
    return not isinstance(error, FatalError) and error.amounts_to != _TOO_MANY


def _parts(answer: ChatAnswer, requests: Sequence[ChatRequest]) -> list[ChatAnswer | None]:
    """Return the answer of each text; None where its vector is bad.

    What was used is shared out by the length of the texts, so that the parts are all of it together.
    """
    if len(requests) == 1:
        return [answer]
    sizes = [len(message["content"]) for request in requests for message in request.messages]
    usages: list[dict[str, int]] = [{} for _ in requests]
    for name, count in answer.usage.items():
        for usage, part in zip(usages, shared_out(count, sizes), strict=True):
            usage[name] = part
    whole = sum(sizes) or 1
    parts: list[ChatAnswer | None] = []
    for vector, usage, size in zip(answer.extras["embeddings"], usages, sizes, strict=True):
        extras: Mapping[str, Any] = {**answer.extras, "embeddings": [vector]}
        cost = None if answer.cost is None else answer.cost * size / whole
        parts.append(None if vector is None else replace(answer, extras=extras, usage=usage, cost=cost))
    return parts


def _fail(waiting: Sequence[asyncio.Future[ChatAnswer]], error: Exception) -> None:
    for each in waiting:
        if not each.done():
            each.set_exception(error)
