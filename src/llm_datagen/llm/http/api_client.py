"""Calls of an endpoint's API beside those for answers: JSON both ways, long bodies, files of JSON lines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from yarl import URL

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.batch.base import ApiResponse
from llm_datagen.llm.http.body import (
    ACCEPTED_ENCODINGS,
    MAX_RESPONSE_BYTES,
    PIECE_BYTES,
    DamagedBodyError,
    parsed,
    parsed_or_none,
)
from llm_datagen.llm.http.failures import Failures
from llm_datagen.llm.http.sessions.session import Session, read_response
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.types import ChatRequest
from llm_datagen.streams.formats.json_text import dumps

if TYPE_CHECKING:
    import aiohttp

_MAYBE_DONE = (408, 409, 425, 499)
"""Statuses below 500 after which the request may have been carried out all the same."""


class ApiClient:
    """Calls an API, each time by one HTTP request, tried once. All methods run on the event loop of the node.

    Args:
        address: of the endpoint.
        api_key: sent as the adapter does it; None sends none.
        timeout: seconds that an answer may take to come, and a pause while it comes; of a file, however long it is.
        max_response_bytes: the longest answer, and the longest line of a file.

    Attributes:
        base: what stands before the paths.
    """

    def __init__(
        self,
        address: Address,
        api_key: Secret | None,
        timeout: float,
        *,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self.base = address.base
        self._address = address
        self._seconds = timeout
        self._max_response_bytes = max_response_bytes
        self._access = Access(address, api_key)
        self._session = Session(self._access, timeout, is_long=True)

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the requests.

        Raises:
            ConfigError: when the environment names a proxy, or certificates, that cannot be used.
        """
        await self._access.open()
        self._session.open()

    async def close(self) -> None:
        """Close every connection. May be called more than once."""
        await self._session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        pieces: Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ApiResponse:
        """Send a request, and return what came back; see `BatchHttp.request`."""
        sent: bytes | AsyncIterator[bytes] | None = None
        all_headers = {"Accept-Encoding": ACCEPTED_ENCODINGS, **(headers or {})}
        if pieces is not None:
            sent = _each(pieces)
            all_headers["Content-Length"] = str(await asyncio.to_thread(_length, pieces))
        elif data is not None:
            sent = dumps(data)
            all_headers["Content-Type"] = "application/json"
        call = _named(method, path)
        async with self._response(method, path, sent, all_headers, call) as response:
            found = await read_response(response, self._max_response_bytes)
        body = parsed_or_none(found.content)
        if not 200 <= found.status < 300 or found.is_cut:
            raise _settled(self._failures.refused(found, body, call))
        if found.content.strip() and body is None:
            raise _settled(self._failures.unreadable(found, body, call))
        return ApiResponse(body, found.headers)

    async def records(self, path: str) -> AsyncGenerator[Any, None]:
        """Yield the JSON of each line of a file, as it comes; see `BatchHttp.records`."""
        call = _named("GET", path)
        async with self._response("GET", path, None, {"Accept-Encoding": "identity"}, call) as response:
            if response.status != 200:
                found = await read_response(response, self._max_response_bytes)
                raise _settled(self._failures.refused(found, parsed_or_none(found.content), call))
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise DamagedBodyError("it is packed, which was not asked for")
            async for line in self._lines(response):
                if line.strip():
                    try:
                        record = parsed(line)
                    except ValueError as error:
                        raise DamagedBodyError("a line of the file is no JSON, or cut off") from error
                    yield record

    def safe(self, text: str, most: int = 300) -> str:
        """Return a text of the provider without secrets; see `BatchHttp.safe`."""
        return self._failures.safe(text, most)

    @property
    def _failures(self) -> Failures:
        return Failures(
            self._address,
            self._access.redaction,
            timeout=self._seconds,
            max_response_bytes=self._max_response_bytes,
            label=str(self.base.with_query(None)),
        )

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        data: bytes | AsyncIterator[bytes] | None,
        headers: Mapping[str, str],
        call: ChatRequest,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the response. What fails until the end of the block becomes an error of this package."""
        status: int | None = None
        try:
            async with self._session.send(method, self._url(path), data=data, headers=headers) as response:
                status = response.status
                yield response
        except TimeoutError as error:
            raise _settled(self._failures.timed_out(call, status)) from error
        except DamagedBodyError as error:
            raise _settled(self._failures.damaged(error, call, status)) from error
        except OSError as error:
            raise _settled(self._failures.unconnected(error, call, status)) from self._access.redaction.cause(error)

    def _url(self, path: str) -> URL:
        if not path.startswith("/"):
            url = URL(path)
            if url.origin() != self.base.origin():
                raise LLMRequestError(
                    f"{self.base.origin()} sent an address of another host, to which the key is not sent: "
                    f"{self._failures.safe(str(url.origin()))} (check base_url)",
                    is_free=True,
                )
            return url
        return self._address.url_of(path)

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        rest = bytearray()
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            first, *more = piece.split(b"\n")
            rest += first
            for part in more:
                yield bytes(rest)
                rest[:] = part
            if len(rest) > self._max_response_bytes:
                raise DamagedBodyError(f"a line has more than {self._max_response_bytes:,} bytes")
        yield bytes(rest)


def _settled(error: LLMRequestError) -> LLMRequestError:
    """Return the error, free only when the request was refused, or was never sent."""
    if error.status is not None:
        error.is_free = 300 <= error.status < 500 and error.status not in _MAYBE_DONE
    return error


def _named(method: str, path: str) -> ChatRequest:
    """Return what errors name the request by."""
    shown = path.partition("?")[0] if path.startswith("/") else URL(path).path
    return ChatRequest(messages=(), params={}, model="", row=f"{method} {shown}")


def _length(pieces: Iterable[bytes]) -> int:
    return sum(map(len, pieces))


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces, many small ones as one."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= PIECE_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
