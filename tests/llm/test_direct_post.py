"""Calls over connections of our own: what comes back is what a session of aiohttp would have given."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.direct.direct_post import DirectPost
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.types import ChatRequest

from .raw_server import REQUEST, answer, request_of, server, transport, turns


def test_a_call_has_the_head_that_a_session_would_have_sent_and_its_connection_is_used_again() -> None:
    seen: list[tuple[int, list[str], bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            seen.append((number, *await request_of(reader)))
            writer.write(answer("a"))

    async def calls() -> None:
        async with server(serve) as base_url:
            for is_direct in (True, False):
                async with transport(base_url, is_direct=is_direct) as opened:
                    for _ in range(2):
                        assert (await opened.complete(REQUEST)).text == "a"

    asyncio.run(calls())
    assert [number for number, _, _ in seen] == [1, 1, 2, 2]
    (_, direct, body), (_, by_session, _) = seen[1], seen[3]
    assert direct[0] == by_session[0] == "POST /v1/chat/completions HTTP/1.1"
    assert sorted(line.lower() for line in direct) == sorted(line.lower() for line in by_session)
    assert "Authorization: Bearer secret" in direct
    assert json.loads(body) == {"model": "m", "messages": [{"role": "user", "content": "q"}]}


def test_what_a_server_says_before_its_response_is_passed_over() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while True:
            await request_of(reader)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + answer("b"))

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url) as opened:
            assert [(await opened.complete(REQUEST)).text for _ in range(2)] == ["b", "b"]

    asyncio.run(calls())


def test_a_connection_is_not_used_again_when_its_response_was_cut_or_it_says_close_or_its_request_was_not_taken() -> (
    None
):
    """What is left on it would be taken for a part of the next call."""
    long = {**REQUEST.messages[0], "content": "x" * (32 << 20)}
    numbers: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        numbers.append(number)
        if number == 1:  # longer than is read
            await request_of(reader)
            writer.write(answer("y" * 5000))
            await reader.read()
        elif number == 2:  # answers, and does not read the request
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(0.2)
        elif number == 3:
            await request_of(reader)
            writer.write(answer("c", "Connection: close"))
            await reader.read()
        else:
            await request_of(reader)
            writer.write(answer("d"))

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url, max_response_bytes=4096) as opened:
            with pytest.raises(LLMRequestError, match="sent more than 4,096 bytes"):
                await opened.complete(REQUEST)
            with pytest.raises(LLMRequestError, match="HTTP 413"):
                await opened.complete(ChatRequest(messages=[long], params={}, model="m", row="row 1"))
            assert [(await opened.complete(REQUEST)).text for _ in range(2)] == ["c", "d"]

    asyncio.run(calls())
    assert numbers == [1, 2, 3, 4]


def test_a_call_that_is_given_up_closes_its_connection() -> None:
    closed, asked = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await request_of(reader)
        asked.set()
        assert await reader.read() == b""
        closed.set()

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url) as opened:
            call = asyncio.create_task(opened.complete(REQUEST))
            await asked.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(closed.wait(), 10)

    asyncio.run(calls())


def test_a_header_that_would_be_several_is_not_sent() -> None:
    class Adapter(OpenAIAdapter):
        def headers(self, api_key: str | None) -> dict[str, str]:
            return {"X-Key": "a\r\nX-Other: b"}

    async def calls() -> None:
        address = Address("http://127.0.0.1:9/", Adapter())
        with pytest.raises(ValueError, match=r"a header cannot be sent.*X-Key"):
            await DirectPost(address.url, Access(address, None), 5, 100).send({}, lambda _: None)

    asyncio.run(calls())


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_response_to_no_request_is_not_the_next_calls(is_direct: bool) -> None:
    """It comes while the connection waits for the next call; so does what an idle connection is closed with."""
    more = {1: answer("another row's"), 2: b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"}
    numbers: list[int] = []
    went_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            await request_of(reader)
            numbers.append(number)
            writer.write(answer(f"answer {len(numbers)}"))
            await writer.drain()
            await went_on.wait()
            went_on.clear()
            writer.write(more.get(number, b""))

    async def calls() -> None:
        async with server(serve) as base_url, transport(base_url, is_direct=is_direct) as opened:
            for number in range(1, 5):
                assert (await opened.complete(REQUEST)).text == f"answer {number}"
                went_on.set()
                await turns()

    asyncio.run(calls())
    assert numbers == [1, 2, 3, 3]


def test_a_server_that_speaks_before_a_session_asks_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(answer("unasked"))
        await reader.read()

    async def late(self: aiohttp.TCPConnector, *arguments: Any) -> Any:
        connection = await connect(self, *arguments)
        await turns()
        return connection

    async def call() -> None:
        async with server(serve) as base_url, transport(base_url, is_direct=False) as opened:
            await opened.complete(REQUEST)

    connect = aiohttp.TCPConnector.connect
    monkeypatch.setattr(aiohttp.TCPConnector, "connect", late)
    with pytest.raises(LLMRequestError, match="the server answered before it was asked") as caught:
        asyncio.run(call())
    assert (caught.value.is_free, caught.value.may_pass) == (True, True)


@pytest.mark.parametrize("is_direct", [True, False])
def test_an_answer_that_broke_off_is_one_that_had_begun(is_direct: bool) -> None:
    """So its call counts: it may have to be paid for."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await request_of(reader)
        writer.write(answer("e")[: -1 if number == 1 else None] if number < 3 else b"HTTP/1.1 200 OK\r\n")

    async def calls() -> list[bool]:
        found = []
        async with server(serve) as base_url, transport(base_url, is_direct=is_direct) as opened:
            for number in range(1, 4):
                if number == 2:
                    assert (await opened.complete(REQUEST)).text == "e"
                    continue
                with pytest.raises(LLMRequestError, match="the connection failed") as caught:
                    await opened.complete(REQUEST)
                found.append(caught.value.is_served)
        return found

    assert asyncio.run(calls()) == [True, False]


@pytest.mark.parametrize("first", [answer("unasked"), b""])
def test_a_server_that_answers_or_closes_before_it_is_asked_costs_nothing(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        writer.write(first)
        if first:
            await reader.read()

    async def late(self: asyncio.BaseEventLoop, *arguments: Any, **options: Any) -> Any:
        connection = await connect(self, *arguments, **options)
        await turns()
        return connection

    async def call() -> None:
        async with server(serve) as base_url, transport(base_url) as opened:
            await opened.complete(REQUEST)

    connect = asyncio.BaseEventLoop.create_connection
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", late)
    with pytest.raises(LLMRequestError, match=r"127\.0\.0\.1:\d+ closed the connection, or answered, before") as caught:
        asyncio.run(call())
    assert (caught.value.is_free, caught.value.may_pass) == (True, True)


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_connection_that_is_not_made_in_time_costs_nothing_and_is_no_late_answer(
    is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "direct.connections" if is_direct else "sessions.session"
    monkeypatch.setattr(f"llm_datagen.llm.http.{module}.CONNECTS_WITHIN", 0.05)

    async def call(port: int) -> None:
        async with transport(f"http://127.0.0.1:{port}/v1", is_direct=is_direct) as opened:
            await opened.complete(REQUEST)

    with ExitStack() as sockets:
        listening = sockets.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # after these it takes no more
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        with pytest.raises(LLMRequestError, match=r"the connection failed: .*check base_url and that the") as caught:
            asyncio.run(call(listening.getsockname()[1]))
    assert (caught.value.is_free, caught.value.may_pass) == (True, True)
    assert ("within 0.05 s" in str(caught.value)) == is_direct


@pytest.mark.parametrize("is_direct", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "EINVAL"])
def test_a_machine_that_has_no_file_left_is_no_failure_of_the_endpoint(
    host: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may fail a look-up of a name with any errno."""

    def look_up(*arguments: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            return getaddrinfo(*arguments, **options)
        raise OSError(errno.EINVAL, "Invalid argument")

    if host == "EINVAL":
        getaddrinfo = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        host = "localhost"
    gc.collect()  # which would make room
    host.encode("idna")  # a file of Python that a look-up reads the first time

    async def call() -> LLMRequestError:
        async with transport(f"http://{host}:9/v1", is_direct=is_direct) as opened:
            await asyncio.to_thread(os.getpid)  # the thread that looks up names is there
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            with Path(os.devnull).open("rb") as last:
                resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
                try:
                    with pytest.raises(LLMRequestError, match=r"no files or ports left .*raise the limit") as caught:
                        await opened.complete(REQUEST)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            return caught.value

    error = asyncio.run(call())
    assert (error.is_local, error.is_free, error.may_pass) == (True, True, True)
