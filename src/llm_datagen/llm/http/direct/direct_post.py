"""A POST over connections of this package's own.

Of the processor time of a call by a session of aiohttp, more than half goes into objects, cookies, redirects and timers
that requests in general need. Here the head of a request is made once, and written with the body; the event loop makes
the connection, and httptools reads the response. What is streamed, or goes through a proxy, goes by a session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from yarl import URL

from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.direct.connections import Connections
from llm_datagen.llm.http.post import JSON_HEADERS
from llm_datagen.llm.http.response import Response
from llm_datagen.streams.formats.json_text import dumps

_FORBIDDEN = ("\r", "\n", "\0")


class DirectPost:
    """Posts to one URL; see `Post`.

    Args:
        url: where requests go.
        access: how the endpoint is reached. It is open.
        timeout: seconds that one request may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
    """

    def __init__(self, url: URL, access: Access, timeout: float, max_response_bytes: int) -> None:
        self._url = url
        self._access = access
        self._timeout = timeout
        self._max_response_bytes = max_response_bytes
        self._connections = Connections(url, access.tls)
        self._headers: Mapping[str, str] = {}
        self._head = b""

    async def send(self, body: Mapping[str, Any], begun: Callable[[int], None]) -> Response:
        """Send a request; see `Post.send`.

        Raises:
            ValueError: when a header cannot be sent.
        """
        data = dumps(body)
        headers = self._access.headers(JSON_HEADERS)
        if headers != self._headers:
            self._head = _head(self._url, headers)
            self._headers = headers
        until = asyncio.get_running_loop().time() + self._timeout
        connection = await self._connections.take(self._timeout)
        request = b"%b%d\r\n\r\n%b" % (self._head, len(data), data)
        response = await connection.exchange(request, self._max_response_bytes, begun, until)
        self._connections.give_back(connection)
        return response

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()


def _head(url: URL, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request, up to the length of its body.

    Raises:
        ValueError: when a header cannot be sent: it would be several.
    """
    for name, value in headers.items():
        if any(sign in text for text in (name, value) for sign in _FORBIDDEN):
            raise ValueError(f"a header cannot be sent: there is a line break or a null byte in {name!r}")
    lines = [
        f"POST {url.raw_path_qs} HTTP/1.1",
        f"Host: {url.host_port_subcomponent}",
        "Accept: */*",
        *(f"{name}: {value}" for name, value in headers.items()),
        "Content-Length: ",
    ]
    return "\r\n".join(lines).encode("utf-8")
