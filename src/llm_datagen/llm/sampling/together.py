"""The samples of a row, asked for by one request: its prompt is paid for once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llm_datagen.errors import FatalError
from llm_datagen.llm.cache.response_cache import CacheLayer, Outcome
from llm_datagen.llm.cost.shares import shared_out
from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.observer import ObserverLayer
from llm_datagen.llm.transport import Transport
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.runs.usage import PICO

_ONES = 3
"""After so many requests in a row that brought one answer, an endpoint is taken to give no more."""


class Together:
    """Asks for several answers to the same messages by as few requests as the API allows. Used on the node's loop.

    What an endpoint leaves out is asked for by requests of its own. One that refuses a request for several, and gives
    one answer, is not asked for several again, nor is one that gave one answer a few times in a row.

    Args:
        inner: makes a request, with all its tries; perhaps an observer around that.
        most: answers that one request may ask for.
        cache: stores each answer by itself; None: none is stored.
    """

    def __init__(self, inner: Transport, most: int, cache: CacheLayer | None) -> None:
        self._inner = inner
        self._cache = cache
        self._most = most
        self._gives_one = False
        self._ones = 0

    async def ask(self, requests: Sequence[ChatRequest]) -> list[Outcome]:
        """Return what came of each request. They differ in their `sample` alone.

        Raises:
            CacheError: when the cache cannot be read or written.
        """
        observer = self._inner if isinstance(self._inner, ObserverLayer) else None
        if self._cache is None or (observer is not None and observer.skips_calls):
            return await self._made(requests)
        found = await self._cache.complete_all(requests, self._made)
        if observer is not None:
            cached = [answer for answer in found if isinstance(answer, ChatAnswer) and answer.is_cached]
            if cached:  # as they were asked for: by one request
                observer.note_cached(replace(requests[0], choices=len(cached)), _together(cached))
        return found

    async def _made(self, requests: Sequence[ChatRequest]) -> list[Outcome]:
        parts = [requests[at : at + self._most] for at in range(0, len(requests), self._most)]
        return [each for part in await asyncio.gather(*map(self._part, parts)) for each in part]

    async def _part(self, requests: Sequence[ChatRequest]) -> list[Outcome]:
        if len(requests) == 1 or self._gives_one:
            return await self._singly(requests)
        try:
            answer = await self._inner.complete(replace(requests[0], choices=len(requests)))
        except LLMRequestError as error:
            if error.may_pass or isinstance(error, FatalError):
                return [error] * len(requests)
            (first,) = await self._singly(requests[:1])
            if isinstance(first, BaseException):  # it was not for the number of answers
                return [first] * len(requests)
            self._note(requests[0], f"it refuses to give several answers to one request: {error.body or error}")
            return [first, *await self._singly(requests[1:])]
        except Exception as error:  # noqa: BLE001 - whatever it is, each sample raises it
            return [error] * len(requests)
        found = parts_of(answer)[: len(requests)]
        self._ones = self._ones + 1 if len(found) == 1 else 0
        if self._ones >= _ONES:
            self._note(requests[0], "it gives one answer to a request, whatever it is asked for")
        return [*found, *await self._singly(requests[len(found) :])]

    async def _singly(self, requests: Sequence[ChatRequest]) -> list[Outcome]:
        return await asyncio.gather(*map(self._inner.complete, requests), return_exceptions=True)

    def _note(self, request: ChatRequest, why: str) -> None:
        if not self._gives_one and request.ctx is not None:
            request.ctx.log(f"{request.model}: {why}; each answer is a request from now on")
        self._gives_one = True


def _together(answers: Sequence[ChatAnswer]) -> ChatAnswer:
    """Return answers as the answer to one request for all of them; see `parts_of`."""
    usage: Counter[str] = Counter()
    for answer in answers:
        usage.update(answer.usage)
    known = [answer.saved for answer in answers if answer.saved is not None]
    saved = sum(known) if len(known) == len(answers) else None
    return replace(answers[0], others=tuple(answers[1:]), usage=dict(usage), saved=saved)


def parts_of(answer: ChatAnswer) -> list[ChatAnswer]:
    """Return the answers to one request, each with its part of what was used: together, they are all of it.

    Tokens of answers are shared out by the length of their texts, those of the prompt evenly.
    """
    if not answer.others:
        return [answer]
    answers = [replace(answer, others=()), *answer.others]
    sizes = [len(each.text or "") + len(str(each.extras)) for each in answers]
    even = [1] * len(answers)
    usages: list[dict[str, int]] = [{} for _ in answers]
    for name, count in answer.usage.items():
        for usage, part in zip(usages, shared_out(count, sizes if name == "completion_tokens" else even), strict=True):
            usage[name] = part
    if _is_sum(answer.usage):
        for usage in usages:
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    costs: list[float | None] = [None] * len(answers)
    if answer.cost is not None:
        tokens = [usage.get("total_tokens", 1) for usage in usages]
        costs = [part / PICO for part in shared_out(round(answer.cost * PICO), tokens if any(tokens) else even)]
    return [
        replace(
            each,
            usage=usage,
            cost=cost,
            model=answer.model,
            endpoint=answer.endpoint,
            seconds=answer.seconds,
            attempts=answer.attempts,
        )
        for each, usage, cost in zip(answers, usages, costs, strict=True)
    ]


def _is_sum(usage: Mapping[str, int]) -> bool:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return all(name in usage for name in names) and usage[names[0]] + usage[names[1]] == usage[names[2]]
