"""One call to an endpoint, by HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from pydantic import SecretStr

from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.http.adapters import Reply
from llm_datagen.llm.http.body import (
    ACCEPTED_ENCODINGS,
    MAX_RESPONSE_BYTES,
    DamagedBodyError,
    is_text,
    parsed_or_none,
    read_body,
)
from llm_datagen.llm.http.endpoint import Endpoint
from llm_datagen.llm.http.error_meaning import HINTS, OK, error_in, may_pass
from llm_datagen.llm.http.network import Proxy, is_local_shortage, proxy_of, trusted_certificates
from llm_datagen.llm.http.reading import counts_of, other_model
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.limits.headers import rate_limits, retry_after
from llm_datagen.llm.limits.token_estimate import max_completion
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.streams.formats.json_text import dumps

_ERROR_BYTES = 1 << 16
"""The longest body of an error that is read: what follows says no more."""
_BODY_CHARS = 300
_WORD_CHARS = 60
_MAYBE_DONE = {408, 499, 502, 504, 520, 522, 524}
"""Statuses of proxies that did not wait for the answer: the call may have been made, and paid for."""
_BAD_GATEWAY = 502
"""What a body that is no answer amounts to: something else answers there."""
_NOT_DONE = (400, 401, 402, 403, 404, 413, 422, 429)
"""What a failure amounts to that came before any work."""


@dataclass(frozen=True, slots=True)
class _Response:
    """What came back, read."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    is_cut: bool


class HttpTransport:
    """Makes every call by one HTTP request, tried once.

    Args:
        endpoint: where calls go.
        api_key: sent as the adapter does it; None sends none.
        timeout: seconds that one call may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        api_key: SecretStr | None,
        timeout: float,
        *,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._redaction = Redaction(api_key, endpoint.url)
        self._timeout = timeout
        self._most = max_response_bytes
        self._proxy: Proxy | None = None
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the calls.

        Raises:
            ConfigError: when the environment names a proxy, or certificates, that cannot be used.
        """
        self._proxy = proxy = proxy_of(self._endpoint)
        if proxy is not None:
            self._redaction = Redaction(self._api_key, self._endpoint.url, proxy.password)
        is_secure = self._endpoint.url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
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
        payload = dumps(self._endpoint.adapter.body(request))
        started = time.perf_counter()
        response = await self._sent(payload, request)
        seconds = time.perf_counter() - started
        data = parsed_or_none(response.content)
        if response.status != OK or error_in(data) is not None or response.is_cut:
            raise self._refused(response, data, request)
        reply = self._read(data)
        if reply is None or not is_text(response.content):
            raise self._unreadable(response, data, request)
        reason = None if reply.finish_reason is None else str(reply.finish_reason)
        word = None if reason is None else self._safe(reason, _WORD_CHARS)
        ending = self._endpoint.adapter.ending(reason)
        if ending is Ending.FAILED:
            raise LLMRequestError(
                f"{self._where(request)} failed while it answered (finish_reason {word!r}): resume to try again",
                status=OK,
                body=self._safe((reply.text or "")[:_ERROR_BYTES]),
                may_pass=True,
                usage=counts_of(reply.usage),
                is_served=True,
                left=rate_limits(response.headers),
            )
        usage, limit = counts_of(reply.usage), max_completion(request)
        other = other_model(reply.model, request.model)
        if word is None and limit is not None and usage.get("completion_tokens", 0) >= limit:
            ending = Ending.CUT_OFF  # nobody says so, but it has just as many tokens as it may have
        return ChatAnswer(
            text=reply.text,
            finish_reason=word,
            ending=ending,
            extras=self._shown(reply.extras),
            usage=usage,
            model=request.model,
            endpoint=self._endpoint.label,
            seconds=seconds,
            left=rate_limits(response.headers),
            response_model=other and self._safe(other),
        )

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def _sent(self, payload: bytes, request: ChatRequest) -> _Response:
        """Send it, and read what comes back as far as it may go."""
        if self._http is None:
            raise LLMError("the caller was called before open()")
        where, status = self._where(request), None
        # Of each call, and not of the session: those go to a proxy as well that is asked for a tunnel, with the key.
        headers = {"Content-Type": "application/json", "Accept-Encoding": ACCEPTED_ENCODINGS, **self._headers()}
        proxy = self._proxy
        told: Mapping[str, str] = {}
        if proxy is not None and self._endpoint.url.scheme == "https":
            told = proxy.headers
        elif proxy is not None:  # it reads the headers of the call
            headers |= proxy.headers
        try:
            # A redirect is not followed: the key would go along.
            async with self._http.post(
                self._endpoint.url,
                data=payload,
                allow_redirects=False,
                headers=headers,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=told,
            ) as response:
                status = response.status
                most = self._most if status == OK else min(_ERROR_BYTES, self._most)
                return _Response(status, response.headers, *await read_body(response, most))
        except TimeoutError as error:
            raise LLMRequestError(
                f"no answer within {self._timeout:g} s from {where}: raise timeout, or lower parallel_size",
                may_pass=True,
                is_free=isinstance(error, aiohttp.ConnectionTimeoutError),
                is_served=status == OK,
            ) from error
        except DamagedBodyError as error:
            raise LLMRequestError(
                f"{where} sent a damaged body: {error} (check base_url)",
                status=status,
                may_pass=True,
                amounts_to=_BAD_GATEWAY,
                is_served=status == OK,
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unconnected(error, where, is_served=status == OK) from self._redaction.cause(error)

    def _unconnected(self, error: Exception, where: str, *, is_served: bool) -> LLMRequestError:
        detail = self._safe(str(error)) or type(error).__name__
        if is_local_shortage(error):
            return LLMRequestError(
                f"this machine has no files or ports left for a call: {detail} ({where}): lower parallel_size, or "
                "raise the limit of open files (ulimit -n)",
                may_pass=True,
                is_free=True,
                is_local=True,
            )
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return LLMRequestError(
                f"the proxy of the environment refused: {detail} ({where}): check it, or name the host in no_proxy",
                may_pass=may_pass(error.status),
                is_free=True,
                amounts_to=error.status,
            )
        return LLMRequestError(
            f"the connection failed: {detail} ({where}): check base_url and that the server is up",
            may_pass=not isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL),
            is_free=isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL),
            is_served=is_served,
        )

    def _refused(self, response: _Response, data: Any, request: ChatRequest) -> LLMRequestError:
        """Return the error of a response that says that it is none, or is too long to be one."""
        status, adapter, where = response.status, self._endpoint.adapter, self._where(request)
        if status == OK and response.is_cut:
            return LLMRequestError(
                f"{where} sent more than {self._most:,} bytes: raise max_response_bytes, or ask for less",
                status=status,
                is_served=True,
                left=rate_limits(response.headers),
            )
        means, body, usage = adapter.amounts_to(status, data), self._body(response), self._usage(data)
        if status == OK and usage and means >= 500:
            means = OK  # it did work on it, so it is there
        hint = HINTS.get(means, "the server failed: resume to try again")
        if means == 401 and adapter.api_key_env:
            hint = f"check api_key, or the environment variable {adapter.api_key_env}"
        is_free = means in _NOT_DONE and not usage if status == OK else status >= 300 and status not in _MAYBE_DONE
        return LLMRequestError(
            f"HTTP {status} from {where}: {body or 'an empty body'} ({hint})",
            status=status,
            body=body,
            may_pass=means == OK or adapter.may_pass(means, response.content),
            retry_after=retry_after(response.headers),
            is_free=is_free,
            left=rate_limits(response.headers),
            amounts_to=means,
            usage=usage,
            is_served=status == OK,
        )

    def _unreadable(self, response: _Response, data: Any, request: ChatRequest) -> LLMRequestError:
        """Return the error of a body in which there is no answer: of this call, or of something else that answers."""
        usage = self._usage(data)
        is_there = bool(usage) or (isinstance(data, Mapping) and "choices" in data)
        body = self._body(response)
        no_answer = "no answer is in it" if is_text(response.content) else "it is not UTF-8: letters are lost"
        return LLMRequestError(
            f"{self._where(request)} did not send a chat completion but: {body or 'an empty body'} "
            + (f"({no_answer}: resume to try again)" if is_there else "(check base_url)"),
            status=response.status,
            body=body,
            may_pass=True,
            amounts_to=OK if is_there else _BAD_GATEWAY,
            usage=usage,
            is_served=True,
            left=rate_limits(response.headers),
        )

    def _read(self, data: Any) -> Reply | None:
        try:
            reply = self._endpoint.adapter.read(data)
        except (LookupError, TypeError, AttributeError, ValueError):
            return None
        return reply if reply.text is None or isinstance(reply.text, str) else None

    def _usage(self, data: Any) -> Mapping[str, int]:
        try:
            return counts_of(self._endpoint.adapter.usage(data))
        except (LookupError, TypeError, AttributeError, ValueError):
            return {}

    def _shown(self, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return them with a refusal that can be shown in an error."""
        return {**extras, "refusal": self._safe(str(extras["refusal"]))} if "refusal" in extras else extras

    def _where(self, request: ChatRequest) -> str:
        return f"{self._endpoint.label}, {request.row}"

    def _headers(self) -> Mapping[str, str]:
        return self._endpoint.adapter.headers(self._api_key.get_secret_value() if self._api_key else None)

    def _body(self, response: _Response) -> str:
        return self._safe(response.content[:_ERROR_BYTES].decode(errors="replace"))

    def _safe(self, text: str, most: int = _BODY_CHARS) -> str:
        text = " ".join(self._redaction.redacted(text).split())
        return text if len(text) <= most else text[:most] + "…"
