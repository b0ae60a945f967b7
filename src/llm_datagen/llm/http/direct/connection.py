"""One connection to an endpoint, for one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from llm_datagen.llm.http.direct.response_reader import ResponseReader
from llm_datagen.llm.http.network_errors import DisconnectError
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.http.socket_watch import SocketWatch


class Connection(asyncio.Protocol):
    """Sends requests and reads their responses, by HTTP/1.1. Used on one event loop.

    Attributes:
        is_clean: whether another request may be sent: it is open, and nothing came that was not asked for, which would
            be read as the response to that request: the answer of a row would be another one's. See `is_idle`, too.
        last_used: when it got its last response, by the clock of the event loop.
    """

    def __init__(self) -> None:
        self.is_clean = True
        self.last_used = 0.0
        self._transport: asyncio.Transport
        self._watch: SocketWatch
        self._reader = ResponseReader()
        self._waiting: asyncio.Future[None] | None = None

    def is_idle(self) -> bool:
        """Return whether nothing came that the event loop had no time to read yet, nor its end, or is to be sent."""
        return self._watch.is_idle()

    async def exchange(
        self, request: bytes, max_response_bytes: int, begun: Callable[[int], None], until: float
    ) -> Response:
        """Send a request on this connection, which is clean, and return the response to it.

        Args:
            request: its head and body.
            max_response_bytes: the longest body of an answer, unpacked.
            begun: called with the status of the response, before its body is read.
            until: when the response must be there, by the clock of the event loop.

        Raises:
            NetworkError: when the connection ends before that is complete, or what comes is no HTTP.
            TimeoutError: when the response is not complete in time.
            DamagedBodyError: when its body cannot be unpacked.
        """
        loop = asyncio.get_running_loop()
        reader = self._reader
        reader.begin(max_response_bytes, begun)
        self._waiting = loop.create_future()
        timer = loop.call_at(until, self._fail, TimeoutError())
        try:
            self._transport.write(request)
            await self._waiting
        except BaseException:
            self._waiting = None
            self.abort()
            raise
        finally:
            timer.cancel()
        self._waiting = None
        if reader.is_last or self._transport.get_write_buffer_size():
            self.abort()  # what is still to come, or to go, is not the next call's
        self.last_used = loop.time()
        return reader.response()

    def abort(self) -> None:
        """Close it at once. Whoever waits for a response is told."""
        self.is_clean = False
        self._transport.abort()
        self._fail(DisconnectError("it was closed on this side"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport. Called by the event loop, as are the following methods."""
        self._transport = cast(asyncio.Transport, transport)
        self._watch = SocketWatch(transport)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._reader.is_over:
            self.abort()
            return
        try:
            self._reader.feed(data)
        except Exception as error:  # noqa: BLE001 - it is for whoever waits for the response
            self._fail(error)
            return
        if self._reader.is_over:
            self._finish()

    def eof_received(self) -> None:
        """Take the end of what the server sends. The event loop closes the connection, once the request has gone."""
        self.is_clean = False
        if self._reader.is_over:
            return
        if self._reader.end():
            self._finish()
        else:
            self._fail(DisconnectError("the server closed the connection before its response was complete"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for a response."""
        if exc is None:  # a server that ends TLS without saying so has ended all the same
            self.eof_received()
            return
        self.is_clean = False
        error = DisconnectError(str(exc) or type(exc).__name__)
        error.__cause__ = exc  # which may be a TimeoutError of the network, and that of the call is another one
        self._fail(error)

    def _finish(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
