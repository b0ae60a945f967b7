"""The part of HTTP/1.1 that clients of an API use: a connection that takes requests one after the other."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import orjson

Ending = Literal["whole", "closed", "silent"]
"""What follows the events of a stream: its end, a connection that closes too early, or nothing at all."""
_LONGEST_HEAD = 64 * 1024
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A complete request. The names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class Service(Protocol):
    """Who answers the requests. Called on the event loop of the server."""

    def handle(self, request: HTTPRequest, connection: Connection) -> None:
        """Answer, now or `later`: with one call of `respond`, `stream`, `keep_silent`, `reset` or `break_off`."""

    def client_left(self) -> None:
        """Record that the client of a waiting request has disconnected."""


class Connection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, service: Service, open_connections: set[Connection]) -> None:
        self._service = service
        self._open = open_connections
        self._buffer = bytearray()
        self._is_busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._closes = False
        self._is_silent = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self._open.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if timer is not None or self._is_silent:
            self._service.client_left()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._buffer += data
        self._next()

    def later(self, seconds: float, answer: Callable[..., None], *arguments: Any) -> None:
        """Call `answer` in some seconds, unless the client goes away before."""
        self._timer = asyncio.get_running_loop().call_later(seconds, answer, *arguments)

    def respond(self, status: int, body: bytes, headers: str = "") -> None:
        """Send a response of JSON; `headers` are whole lines that end in CRLF."""
        self._transport.write(self._head(status, len(body), headers) + body)
        if self._closes:
            self._transport.close()
        self._done()

    def break_off(self, body: bytes) -> None:
        """Send half of the bytes that were announced, and close."""
        self._transport.write(self._head(200, len(body), "") + body[: len(body) // 2])
        self._transport.close()
        self._done()

    def stream(self, events: Sequence[bytes], ending: Ending, headers: str = "") -> None:
        """Send events one by one; `headers` are whole lines that end in CRLF.

        Then the response ends, or the connection closes although more was promised, or nothing comes any more.
        """
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
        self._transport.write(head.encode("latin-1"))
        for event in events:
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        if ending == "silent":
            self.keep_silent()
            return
        if ending == "whole":
            self._transport.write(b"0\r\n\r\n")
        if ending == "closed" or self._closes:
            self._transport.close()
        self._done()

    def keep_silent(self) -> None:
        """Send nothing more, until the client goes away."""
        self._is_silent = True

    def reset(self) -> None:
        """Reset the connection (RST), without a word."""
        linger = struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()
        self._done()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _head(self, status: int, length: int, headers: str) -> bytes:
        return (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n{headers}\r\n"
        ).encode("latin-1")

    def _done(self) -> None:
        self._timer = None
        self._is_busy = False
        if self._buffer and not self._transport.is_closing():
            self._next()

    def _next(self) -> None:
        if self._is_busy:
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                self._refuse(400, "the head of the request does not end")
            return
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "transfer-encoding" in headers:
            self._refuse(411, "send a Content-Length, not chunks")
            return
        length = headers.get("content-length", "0")
        parts = first.split(" ")
        if len(parts) != 3 or not length.isdecimal():
            self._refuse(400, "this is not HTTP/1.1")
            return
        whole = end + 4 + int(length)
        if len(self._buffer) < whole:
            return
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        self._is_busy = True
        self._closes = headers.get("connection", "").lower() == "close"
        self._service.handle(HTTPRequest(parts[0], parts[1], headers, body), self)

    def _refuse(self, status: int, message: str) -> None:
        self._buffer.clear()
        self._closes = True
        self.respond(status, error_body(message))


def error_body(message: str, **fields: Any) -> bytes:
    """Return the body of an error as OpenAI's API has it."""
    return orjson.dumps({"error": {"message": message, "type": "fake", "param": None, "code": None, **fields}})
