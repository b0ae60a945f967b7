"""Tries again: which failures, how often, and after how long."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from llm_datagen.errors import FatalError
from llm_datagen.llm import LLMRequestError
from llm_datagen.llm.limits.headers import retry_after
from llm_datagen.llm.pool.retry import RetryLayer
from llm_datagen.llm.types import ChatAnswer, ChatRequest

from .chat_server import ChatServer, Reply, Seen, completion, run_rows

ROW = {"_i": 3, "q": "x"}
PING = 1
"""The call that finds out whether a failure is the endpoint's."""


def test_every_failure_that_may_pass_is_tried_again_until_the_answer_comes(server: ChatServer) -> None:
    hold = threading.Event()
    faults: list[Any] = [Reply("busy", status) for status in (408, 409, 429, 500, 503)]
    faults += [Reply('{"choices": [{"mess'), Reply("<html>"), Reply("{", missing=50), None]
    answer = Reply(completion("at last"))
    left = iter([*faults[:5], answer, *faults[5:], answer])

    def reply(_seen: Seen) -> Reply:
        fault = next(left)
        if fault is None:  # no answer in time
            hold.wait(10)
            return Reply(completion("late"))
        assert isinstance(fault, Reply)
        return fault

    server.reply = reply
    operator = server.operator(max_retries=5, retry_wait=0.001, timeout=0.5)
    rows = asyncio.run(run_rows(operator, [ROW, ROW]))
    hold.set()
    assert rows == [{**ROW, "answer": "at last"}] * 2
    assert len(server.seen) == len(faults) + 2


@pytest.mark.parametrize(
    ("reply", "tries"),
    [
        (Reply("no", 401), 1 + PING),
        (Reply("no", 400), 1),
        (Reply({"error": {"code": "insufficient_quota"}}, 429), 1 + PING),
        (Reply("tomorrow", 429, headers={"Retry-After": "86400"}), 1 + PING),
        (Reply("down", 503), 3 + PING),
    ],
)
def test_other_failures_are_not_and_there_is_an_end_to_it(server: ChatServer, reply: Reply, tries: int) -> None:
    server.reply = lambda seen: reply
    with pytest.raises(LLMRequestError, match=f"HTTP {reply.status}") as caught:
        asyncio.run(run_rows(server.operator(max_retries=2, retry_wait=0.001), [ROW]))
    assert len(server.seen) == tries
    assert isinstance(caught.value, FatalError) == (tries > 1)


def test_the_pause_is_never_shorter_than_the_endpoint_asks(server: ChatServer) -> None:
    replies = iter([Reply("busy", 429, headers={"Retry-After": "0.3"}), Reply(completion("yes"))])
    server.reply = lambda seen: next(replies)
    pauses: list[float] = []
    loop_sleep = asyncio.sleep

    async def ask() -> None:
        operator = server.operator(max_retries=1, retry_wait=0.001)
        await operator.setup()
        layer = operator._transport
        assert isinstance(layer, RetryLayer)

        async def sleep(seconds: float, request: ChatRequest) -> None:
            pauses.append(seconds)
            await loop_sleep(0)

        layer._sleep = sleep
        answer = await layer.complete(ChatRequest(messages=[], params={}, model="m"))
        assert (answer.text, answer.attempts) == ("yes", 2)
        await operator.teardown()

    asyncio.run(ask())
    assert len(pauses) == 1
    assert 0.3 <= pauses[0] <= 0.34


@pytest.mark.parametrize(
    ("reply", "pauses"), [(Reply("{", missing=50), 1), (Reply("<html>"), 1), (Reply("busy", 500), 2)]
)
def test_after_a_cut_connection_or_a_damaged_body_the_first_new_try_is_made_at_once(
    server: ChatServer, reply: Reply, pauses: int
) -> None:
    replies = iter([reply, reply, Reply(completion("yes"))])
    server.reply = lambda seen: next(replies)
    slept: list[float] = []

    async def ask() -> None:
        operator = server.operator(max_retries=2)
        await operator.setup()
        layer = operator._transport
        assert isinstance(layer, RetryLayer)

        async def sleep(seconds: float, _request: ChatRequest) -> None:
            slept.append(seconds)

        layer._sleep = sleep
        assert (await layer.complete(ChatRequest(messages=[], params={}, model="m"))).attempts == 3
        await operator.teardown()

    asyncio.run(ask())
    assert len(slept) == pauses


def test_pauses_grow_with_each_try_up_to_a_minute() -> None:
    class Down:
        async def open(self) -> None: ...
        async def close(self) -> None: ...
        async def complete(self, request: ChatRequest) -> ChatAnswer:
            raise LLMRequestError("down", status=503, may_pass=True)

    pauses: list[float] = []

    async def sleep(seconds: float, request: ChatRequest) -> None:
        pauses.append(seconds)

    async def ask() -> None:
        layer = RetryLayer(Down(), max_retries=200, retry_wait=1.0, sleep=sleep)
        with pytest.raises(LLMRequestError):
            await layer.complete(ChatRequest(messages=[], params={}, model="m"))

    asyncio.run(ask())
    assert len(pauses) == 200
    assert all(0 <= pause <= min(2**k, 60) for k, pause in enumerate(pauses))
    assert max(pauses) > 30


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=lambda: 100.0) == seconds
