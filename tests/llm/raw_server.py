"""Servers that send what a test tells them, byte by byte, and what makes calls to them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from llm_datagen.llm.http.address import Address, checked_key
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.http.direct.direct_post import DirectPost
from llm_datagen.llm.http.sessions.session_post import SessionPost
from llm_datagen.llm.types import ChatRequest

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


def request(text: str) -> ChatRequest:
    """Return a call that asks something."""
    return ChatRequest(messages=[{"role": "user", "content": text}], params={}, model="m", row=f"row {text}")


def answer(text: str, *headers: str) -> bytes:
    body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


REQUEST = request("q")


async def request_of(reader: asyncio.StreamReader) -> tuple[list[str], bytes]:
    """Read a request: its head, as lines, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
    (length,) = [int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:")]
    return head, await reader.readexactly(length)


async def turns() -> None:
    """Let the loop turn until what was written has come, however busy the machine is."""
    for _ in range(20):
        await asyncio.sleep(0.002)


@asynccontextmanager
async def server(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a server, which says the number of each connection; gives its base URL."""
    connections = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            await serve(reader, writer, connections)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, backlog=1000)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/v1"
    finally:
        listening.close()


@asynccontextmanager
async def transport(
    base_url: str, max_response_bytes: int = 1 << 20, *, is_direct: bool = True, timeout: float = 10
) -> AsyncIterator[HttpTransport]:
    """Yield what makes calls: over connections of our own, or by a session, as through a proxy."""
    address = Address(base_url)
    opened = HttpTransport(address, checked_key("secret"), timeout, max_response_bytes=max_response_bytes)
    await opened.open()
    assert isinstance(opened._post, DirectPost)
    if not is_direct:
        opened._post = SessionPost(address.url, opened._access, timeout, max_response_bytes)
    try:
        yield opened
    finally:
        await opened.close()
