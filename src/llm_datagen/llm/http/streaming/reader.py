"""Reads the answer of a response that is streamed: in time, up to a bound, and to its last event."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp

from llm_datagen.llm.http.body import is_text, unpacked_pieces
from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming
from llm_datagen.llm.http.streaming.errors import BrokenStreamError, LateTokenError
from llm_datagen.llm.http.streaming.frames import Event
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.streams.formats.json_text import dumps, without_lone_surrogates

_REST_SECONDS = 0.1
"""How long the end of a response is waited for after the last event, so that its connection can be used again."""
_BEGINNING_BYTES = 1 << 12
_SHOWN_BYTES = 300
_UNREADABLE = (LookupError, TypeError, AttributeError, ValueError)


class Streamed(NamedTuple):
    """What a response brought.

    Attributes:
        content: the JSON of the body that its events make, or of the failure; what came, if no event did.
        is_cut: whether there was more than may be kept.
        has_begun: whether a piece of the answer came.
    """

    content: bytes
    is_cut: bool
    has_begun: bool


class StreamReader:
    """Reads one response. Made on the event loop, when the call begins.

    Args:
        streaming: how the API streams.
        options: how long the answer may be silent.
        most: bytes that may be kept of an answer.

    Attributes:
        has_begun: whether a piece of the answer has come.
    """

    def __init__(self, streaming: Streaming, options: Stream, most: int) -> None:
        self._streaming = streaming
        self._options = options
        self._most = most
        self.has_begun = False
        self._timer = asyncio.timeout(options.first_token_timeout)

    @contextlib.asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """To be entered around the whole call: it ends when a token is late.

        Raises:
            LateTokenError: then.
        """
        try:
            async with self._timer:
                yield
        except TimeoutError as error:
            if not self._timer.expired():
                raise
            if self.has_begun:
                raise LateTokenError("further", self._options.token_timeout or 0.0, "token_timeout") from error
            raise LateTokenError("first", self._options.first_token_timeout or 0.0, "first_token_timeout") from error

    def reads(self, response: aiohttp.ClientResponse) -> bool:
        """Return whether a response is a stream."""
        return self._streaming.reads(response.headers.get("Content-Type", "").lower())

    async def read(self, response: aiohttp.ClientResponse) -> Streamed:
        """Read the answer.

        Raises:
            BrokenStreamError: when the stream ends before the answer does, or cannot be read.
            DamagedBodyError: when it cannot be unpacked.
            aiohttp.ClientError, TimeoutError: when the connection fails meanwhile.
        """
        frames, assembler = self._streaming.frames(), self._streaming.assembler()
        beginning, kept, is_first, before = bytearray(), 0, True, 0
        unpacked = unpacked_pieces(response.headers.get("Content-Encoding", ""))
        while not assembler.is_over and assembler.error is None:
            packed = await response.content.readany()
            for piece in unpacked(packed) if packed else (b"",):
                if is_first:
                    beginning += piece[: _BEGINNING_BYTES - len(beginning)]
                for event in frames.feed(piece) if packed else frames.end():
                    is_first = False
                    kept += self._take(assembler, event)
                    if assembler.is_over or assembler.error is not None:
                        break
                if kept > before:
                    self._got_token()
                    before = kept
                if kept + frames.pending > self._most:
                    response.close()
                    return Streamed(b"", True, self.has_begun)
            if not packed:
                break
        if is_first:
            return Streamed(bytes(beginning), False, False)
        if assembler.error is not None:
            return Streamed(dumps(without_lone_surrogates(assembler.error)), False, self.has_begun)
        if not (assembler.is_over or assembler.is_whole):
            raise BrokenStreamError("the stream ended before the answer did")
        await self._end(response)
        try:
            content = dumps(without_lone_surrogates(assembler.body()))
        except _UNREADABLE as error:
            raise BrokenStreamError(f"its events do not fit together: {type(error).__name__}") from error
        return Streamed(content, False, self.has_begun)

    def _take(self, assembler: Assembler, event: Event) -> int:
        if not (event.data.isascii() or is_text(event.data)):
            raise BrokenStreamError("it is not UTF-8: characters are lost")
        try:
            return assembler.take(event)
        except _UNREADABLE as error:
            shown = event.data[:_SHOWN_BYTES].decode(errors="replace")
            raise BrokenStreamError(f"an event cannot be read: {shown}") from error

    def _got_token(self) -> None:
        after = self._options.token_timeout
        if after is not None:
            self._timer.reschedule(asyncio.get_running_loop().time() + after)
        elif not self.has_begun:
            self._timer.reschedule(None)
        self.has_begun = True

    async def _end(self, response: aiohttp.ClientResponse) -> None:
        """Read the end of the response; what has come is whole, whatever becomes of the connection."""
        self._timer.reschedule(None)
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_REST_SECONDS):
                while await response.content.readany():
                    pass
