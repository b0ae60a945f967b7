"""Posts by a session: what takes the way through a proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yarl import URL

from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.post import JSON_HEADERS
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.http.sessions.session import Session, read_response
from llm_datagen.streams.formats.json_text import dumps


class SessionPost:
    """Posts to one URL; see `Post`.

    Args:
        url: where requests go.
        access: how the endpoint is reached. It is open.
        timeout: seconds that one request may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
    """

    def __init__(self, url: URL, access: Access, timeout: float, max_response_bytes: int) -> None:
        self._url = url
        self._max_response_bytes = max_response_bytes
        self._session = Session(access, timeout)
        self._session.open()

    async def send(self, body: Mapping[str, Any], begun: Callable[[int], None]) -> Response:
        """Send a request; see `Post.send`."""
        async with self._session.send("POST", self._url, data=dumps(body), headers=JSON_HEADERS) as response:
            begun(response.status)
            return await read_response(response, self._max_response_bytes)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
