"""Posts by a session whose answers are streamed: where they go, what they ask for, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.error_meaning import OK
from llm_datagen.llm.http.post import JSON_HEADERS
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.http.sessions.session import Session, read_response
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.http.streaming.reader import StreamReader
from llm_datagen.streams.formats.json_text import dumps

_HEADERS = {**JSON_HEADERS, "Accept-Encoding": "identity"}  # what is packed comes late


class StreamPost:
    """Posts calls whose answers are streamed; see `Post`.

    Args:
        address: where calls go; its adapter says how its API streams.
        access: how the endpoint is reached. It is open.
        timeout: seconds that one call may take in all.
        options: how long an answer may be silent.
        max_response_bytes: the longest answer, put together.
    """

    def __init__(
        self, address: Address, access: Access, timeout: float, options: Stream, max_response_bytes: int
    ) -> None:
        streaming = address.adapter.streaming()
        assert streaming is not None, "stream_of lets no other adapter pass"
        self._url = address.url_of(streaming.path(address.path))
        self._streaming = streaming
        self._options = options
        self._max_response_bytes = max_response_bytes
        self._session = Session(access, timeout)
        self._session.open()

    async def send(self, body: Mapping[str, Any], begun: Callable[[int], None]) -> Response:
        """Send a request; see `Post.send`. What is no stream, such as an error, is read as it is."""
        data = dumps(self._streaming.body(body, self._options))
        reader = StreamReader(self._streaming, self._options, self._max_response_bytes)
        async with reader.in_time(), self._session.send("POST", self._url, data=data, headers=_HEADERS) as response:
            begun(response.status)
            if response.status == OK and reader.reads(response):
                return Response(response.status, response.headers, *await reader.read(response))
            return await read_response(response, self._max_response_bytes)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
