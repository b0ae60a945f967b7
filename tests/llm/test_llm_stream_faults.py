"""Streams of all APIs, cut and damaged at random: what comes out is the whole answer, or a failure."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, cast

import aiohttp
import pytest

from llm_datagen.llm.http.adapters import adapter_of
from llm_datagen.llm.http.body import DamagedBodyError
from llm_datagen.llm.http.error_meaning import error_in
from llm_datagen.llm.http.streaming.errors import BrokenStreamError
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.http.streaming.reader import StreamReader

from .providers import APIS, Api

NAMES = ("openai", "openai-responses", "anthropic", "gemini", "bedrock", "ollama")
DIFFERENT = [api for api in APIS if api.adapter in NAMES]
FAILED = object()


class Content:
    """What a response brings, in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


class Response:
    """A response whose body ends in good order."""

    def __init__(self, api: Api, data: bytes, size: int) -> None:
        self.headers = {"Content-Type": api.stream_type}
        self.content = Content([data[at : at + size] for at in range(0, len(data), size)])

    def close(self) -> None:
        """Do nothing."""


async def outcome(api: Api, data: bytes, size: int = 1 << 16) -> Any:
    """Return the text that comes of a stream; or FAILED."""
    adapter = adapter_of(api.adapter)
    streaming = adapter.streaming()
    assert streaming is not None
    response = cast(aiohttp.ClientResponse, Response(api, data, size))
    try:
        reader = StreamReader(streaming, Stream(), 1 << 20)
        async with reader.in_time():
            streamed = await reader.read(response)
        body = json.loads(streamed.content)
        reply = adapter.read(body)
    except (BrokenStreamError, DamagedBodyError, ValueError, LookupError, TypeError, AttributeError):
        return FAILED
    if error_in(body) is not None:
        return FAILED
    return reply.text


@pytest.mark.parametrize("api", DIFFERENT, ids=lambda api: api.adapter)
def test_a_stream_that_ends_anywhere_gives_the_whole_answer_or_none(api: Api) -> None:
    for sent, text in ((api.answer, "yes"), (api.structured, '{"mood": "good"}')):
        data = api.stream(sent.body)

        async def all_of(data: bytes = data) -> list[Any]:
            ends = [*range(0, len(data), 13), len(data)]
            return [await outcome(api, data[:end], 97) for end in ends]

        found = asyncio.run(all_of())
        assert set(found) == {FAILED, text}
        assert (found[0], found[-1]) == (FAILED, text)


@pytest.mark.slow
@pytest.mark.parametrize("api", DIFFERENT, ids=lambda api: api.adapter)
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_that_is_damaged_anyhow_raises_nothing_but_what_is_known(api: Api, seed: int) -> None:
    chance = random.Random(seed)
    data = api.stream(api.answer.body)

    async def all_of() -> None:
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                at = chance.randrange(len(damaged))
                match chance.randrange(4):
                    case 0:
                        damaged[at] = chance.randrange(256)
                    case 1:
                        del damaged[at : at + chance.randint(1, 80)]
                    case 2:
                        damaged[at:at] = damaged[at : at + chance.randint(1, 80)]
                    case 3:
                        damaged[at:at] = chance.choice([b"null", b"[]", b'"', b"\n\n", b"data: {}\n\n", b"{", b"7"])
            await outcome(api, bytes(damaged), chance.randint(1, 200))

    asyncio.run(all_of())
