"""One call to an endpoint, by HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from pydantic import SecretStr

from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.http.adapters import Reply
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.body import (
    ACCEPTED_ENCODINGS,
    MAX_RESPONSE_BYTES,
    DamagedBodyError,
    is_text,
    parsed_or_none,
    read_body,
)
from llm_datagen.llm.http.error_meaning import OK, error_in
from llm_datagen.llm.http.failures import ERROR_BYTES, Failures, Response
from llm_datagen.llm.http.network import Proxy, proxy_of, trusted_certificates
from llm_datagen.llm.http.reading import counts_of, other_model
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.limits.headers import rate_limits
from llm_datagen.llm.limits.token_estimate import answer_limit
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.streams.formats.json_text import dumps

_WORD_CHARS = 60


class HttpTransport:
    """Makes every call by one HTTP request, tried once.

    Args:
        address: where calls go.
        api_key: sent as the adapter does it; None sends none.
        timeout: seconds that one call may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
    """

    def __init__(
        self,
        address: Address,
        api_key: SecretStr | None,
        timeout: float,
        *,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._address = address
        self._api_key = api_key
        self._timeout = timeout
        self._max_response_bytes = max_response_bytes
        self._redact(Redaction(api_key, address.url))
        self._proxy: Proxy | None = None
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the calls.

        Raises:
            ConfigError: when the environment names a proxy, or certificates, that cannot be used.
        """
        self._proxy = proxy = proxy_of(self._address)
        if proxy is not None:
            self._redact(Redaction(self._api_key, self._address.url, proxy.password))
        is_secure = self._address.url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
        self._http = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(self._timeout, 10.0)),
            # How many calls are open at once is the node's affair.
            connector=aiohttp.TCPConnector(
                limit=0, ssl=await asyncio.to_thread(trusted_certificates) if is_secure else True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would read .netrc, too
            auto_decompress=False,  # it knows no bound
        )

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request and return what came back.

        Raises:
            LLMRequestError: when no answer came back.
            PromptError: when the adapter cannot put the request.
        """
        payload = dumps(self._address.adapter.body(request))
        started = time.perf_counter()
        response = await self._send(payload, request)
        seconds = time.perf_counter() - started
        data = parsed_or_none(response.content)
        if response.status != OK or error_in(data) is not None or response.is_cut:
            raise self._failures.refused(response, data, request)
        reply = self._read(data)
        if reply is None or not is_text(response.content):
            raise self._failures.unreadable(response, data, request)
        reason = None if reply.finish_reason is None else str(reply.finish_reason)
        word = None if reason is None else self._failures.safe(reason, _WORD_CHARS)
        ending = self._address.adapter.ending(reason)
        if ending is Ending.FAILED:
            raise self._failures.failed_answer(response, reply, word, request)
        usage, limit = counts_of(reply.usage), answer_limit(request.params)
        other = other_model(reply.model, request.model)
        if word is None and limit is not None and usage.get("completion_tokens", 0) >= limit:
            ending = Ending.CUT_OFF  # nobody says so, but it has just as many tokens as it may have
        return ChatAnswer(
            text=reply.text,
            finish_reason=word,
            ending=ending,
            extras=self._redacted(reply.extras),
            usage=usage,
            model=request.model,
            endpoint=self._address.label,
            seconds=seconds,
            left=rate_limits(response.headers),
            response_model=other and self._failures.safe(other),
        )

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def _send(self, payload: bytes, request: ChatRequest) -> Response:
        """Send it, and read what comes back as far as it may go."""
        if self._http is None:
            raise LLMError("the transport was called before open()")
        status: int | None = None
        # Of each call, and not of the session: those go to a proxy as well that is asked for a tunnel, with the key.
        headers = {"Content-Type": "application/json", "Accept-Encoding": ACCEPTED_ENCODINGS, **self._headers()}
        proxy = self._proxy
        proxy_headers: Mapping[str, str] = {}
        if proxy is not None and self._address.url.scheme == "https":
            proxy_headers = proxy.headers
        elif proxy is not None:  # it reads the headers of the call
            headers |= proxy.headers
        try:
            # A redirect is not followed: the key would go along.
            async with self._http.post(
                self._address.url,
                data=payload,
                allow_redirects=False,
                headers=headers,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=proxy_headers,
            ) as response:
                status = response.status
                most = self._max_response_bytes if status == OK else min(ERROR_BYTES, self._max_response_bytes)
                return Response(status, response.headers, *await read_body(response, most))
        except TimeoutError as error:
            raise self._failures.timed_out(error, request, status) from error
        except DamagedBodyError as error:
            raise self._failures.damaged(error, request, status) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failures.unconnected(error, request, status) from self._redaction.cause(error)

    def _read(self, data: Any) -> Reply | None:
        try:
            reply = self._address.adapter.read(data)
        except (LookupError, TypeError, AttributeError, ValueError):
            return None
        return reply if reply.text is None or isinstance(reply.text, str) else None

    def _redact(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._failures = Failures(
            self._address, redaction, timeout=self._timeout, max_response_bytes=self._max_response_bytes
        )

    def _redacted(self, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return them with a refusal that can be shown in an error."""
        return {**extras, "refusal": self._failures.safe(str(extras["refusal"]))} if "refusal" in extras else extras

    def _headers(self) -> Mapping[str, str]:
        return self._address.adapter.headers(self._api_key.get_secret_value() if self._api_key else None)
