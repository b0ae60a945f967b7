"""Requests to an endpoint by aiohttp: by any method, through a proxy, and with responses that are read as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.body import PIECE_BYTES, BoundedBody
from llm_datagen.llm.http.direct.connections import CONNECTS_WITHIN
from llm_datagen.llm.http.network_errors import ConnectError, DisconnectError, NetworkError, NoHttpError
from llm_datagen.llm.http.response import Response, longest_body
from llm_datagen.llm.http.sessions.connector import Connector, SpokeUnaskedError

_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL, SpokeUnaskedError)
"""Errors after which it is certain that no request was sent."""


class Session:
    """Sends requests to an endpoint. All methods run on the event loop of the node.

    Args:
        access: how the endpoint is reached. It is open when this is opened.
        timeout: seconds that a request may take in all, until its response is read.
        is_long: whether these are for each pause in that instead, because responses may be of any length.
    """

    def __init__(self, access: Access, timeout: float, *, is_long: bool = False) -> None:
        self._access = access
        self._timeout = aiohttp.ClientTimeout(
            total=None if is_long else timeout,
            sock_connect=min(timeout, CONNECTS_WITHIN),
            sock_read=timeout if is_long else None,
        )
        self._http: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Open the HTTP client. Connections are made by the requests."""
        self._http = aiohttp.ClientSession(
            connector=Connector(ssl=self._access.tls or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would read .netrc, too
            auto_decompress=False,  # it knows no bound
        )

    @asynccontextmanager
    async def send(
        self, method: str, url: URL, *, data: bytes | AsyncIterator[bytes] | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and yield the response, to be read within the block.

        Args:
            method: of HTTP.
            url: where to, at the same host.
            data: the body, whole or in pieces; None: there is none.
            headers: beside those of every request.

        Raises:
            NetworkError: when the connection fails, also within the block.
            TimeoutError: when the response does not come in time.
        """
        if self._http is None:
            raise LLMError("the transport was called before open()")
        # Of each call, and not of the session: those go to a proxy as well that is asked for a tunnel, with the key.
        headers = self._access.headers(headers)
        proxy = self._access.proxy
        proxy_headers: Mapping[str, str] = {}
        if proxy is not None and url.scheme == "https":
            proxy_headers = proxy.headers
        elif proxy is not None:  # it reads the headers of the call
            headers = {**headers, **proxy.headers}
        try:
            async with self._http.request(
                method,
                url,
                data=data,
                allow_redirects=False,  # the key would go along
                headers=headers,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=proxy_headers,
                timeout=self._timeout,
            ) as response:
                yield response
        except aiohttp.ClientError as error:
            # Its timeouts are of both kinds; that of a connection is no late response.
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
                raise
            raise _network_error(error) from error

    async def close(self) -> None:
        """Close every connection. May be called more than once."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()


async def read_response(response: aiohttp.ClientResponse, max_response_bytes: int) -> Response:
    """Return a response, read as far as it may go; when that is not to its end, its connection is closed.

    Args:
        response: of a session, within its block.
        max_response_bytes: the longest body of an answer, unpacked.

    Raises:
        DamagedBodyError: when the body cannot be unpacked.
        aiohttp.ClientError, TimeoutError: when the connection fails meanwhile.
    """
    body = BoundedBody(response.headers.get("Content-Encoding", ""), longest_body(response.status, max_response_bytes))
    is_cut = False
    async for piece in response.content.iter_chunked(PIECE_BYTES):
        if body.add(piece):
            response.close()  # else what is still to come would be read before the connection is used again
            is_cut = True
            break
    return Response(response.status, response.headers, body.content(), is_cut)


def _network_error(error: aiohttp.ClientError) -> NetworkError:
    text = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectError(text, proxy_status=error.status)
    if isinstance(error, aiohttp.ClientResponseError):
        return NoHttpError(text)
    if not isinstance(error, _BEFORE_SENDING):
        return DisconnectError(text)
    return ConnectError(
        text,
        may_pass=not isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL),
        is_lookup=isinstance(error, aiohttp.ClientConnectorDNSError),
        is_untrusted=isinstance(error, aiohttp.ClientConnectorCertificateError),
    )
