"""One call to an endpoint, by HTTP."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import aiohttp
import orjson
from pydantic import SecretStr
from yarl import URL

from llm_datagen.errors import ConfigError
from llm_datagen.llm.chat import ChatAnswer, ChatRequest
from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.http.adapters import ChatAdapter, OpenAIAdapter, Reply
from llm_datagen.llm.http.masking import Mask
from llm_datagen.llm.limits.headers import rate_limits, retry_after

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
"""Hosts that are this machine."""
_BODY_CHARS = 300
_HINTS = {
    400: "check model, params and the schema",
    401: "check the key",
    403: "check that the key may use this model",
    404: "check base_url and model",
    413: "the prompt is too long for this endpoint",
    429: "too many calls at once, or no credit left: lower parallel_size, then resume",
}

_MAYBE_DONE = {408, 499, 502, 504, 520, 522, 524}
"""Statuses of proxies that did not wait for the answer: the call may have been made, and paid for."""


class Endpoint:
    """Where calls go, checked: an http(s) URL without credentials.

    Args:
        base_url: such as ``https://api.openai.com/v1``; None: what the environment or the adapter says.
        adapter: speaks the API of the provider.
        model: the model that is called.

    Attributes:
        adapter: the same.
        host: the host's name, which stands for the provider in reports.
        label: the URL of the calls as errors show it.

    Raises:
        ConfigError: when `base_url` cannot be used.
    """

    def __init__(self, base_url: str | None, adapter: ChatAdapter | None = None, model: str = "") -> None:
        self.adapter = adapter or OpenAIAdapter()
        base_url = base_url or os.environ.get(self.adapter.base_url_env) or self.adapter.base_url
        try:
            url = URL(base_url)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"base_url is not a URL: {error}") from error
        if url.user is not None or url.password is not None:
            raise ConfigError("base_url holds a user or password: give the key as api_key instead")
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"base_url must start with http:// or https:// and a host, not {base_url!r}")
        self.url = url.with_path(url.raw_path.rstrip("/") + self.adapter.path(model), encoded=True, keep_query=True)
        self.host = url.host
        self.label = str(self.url.with_query(None))

    @property
    def is_loopback(self) -> bool:
        """Whether the calls stay on this machine."""
        return self.host in LOOPBACK


class HttpCaller:
    """Makes every call by one HTTP request, tried once.

    Args:
        endpoint: where calls go.
        api_key: sent as the adapter does it; None sends none.
        timeout: seconds that one call may take in all.
    """

    def __init__(self, endpoint: Endpoint, api_key: SecretStr | None, timeout: float) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._mask = Mask(api_key, endpoint.url)
        self._timeout = timeout
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the calls."""
        self._http = aiohttp.ClientSession(
            headers={"Content-Type": "application/json", **self._headers()},
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(self._timeout, 10.0)),
            connector=aiohttp.TCPConnector(limit=0),  # how many calls are open at once is the node's affair
            cookie_jar=aiohttp.DummyCookieJar(),
            # A proxy of the environment cannot reach this machine's loopback.
            trust_env=not self._endpoint.is_loopback,
        )

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request and return what came back.

        Raises:
            LLMRequestError: when no answer came back.
            PromptError: when the adapter cannot put the request.
        """
        if self._http is None:
            raise LLMError("the caller was called before open()")
        where = f"{self._endpoint.label}, {request.row}"
        adapter = self._endpoint.adapter
        payload = orjson.dumps(adapter.body(request))
        started = time.perf_counter()
        try:
            # A redirect is not followed: the key would go along.
            async with self._http.post(self._endpoint.url, data=payload, allow_redirects=False) as response:
                status, headers, content = response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise LLMRequestError(
                f"no answer within {self._timeout:g} s from {where}: raise timeout, or lower parallel_size",
                may_pass=True,
                is_free=isinstance(error, aiohttp.ConnectionTimeoutError),
            ) from error
        except aiohttp.ClientError as error:
            detail = self._safe(str(error)) or type(error).__name__
            raise LLMRequestError(
                f"the connection failed: {detail} ({where}): check base_url and that the server is up",
                may_pass=not isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL),
                is_free=isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL),
            ) from self._mask.cause(error)
        seconds = time.perf_counter() - started
        if status != 200:
            body = self._safe(content.decode(errors="replace"))
            hint = _HINTS.get(status, "the server failed: resume to try again")
            if status == 401 and adapter.api_key_env:
                hint = f"check api_key, or the environment variable {adapter.api_key_env}"
            raise LLMRequestError(
                f"HTTP {status} from {where}: {body or 'an empty body'} ({hint})",
                status=status,
                body=body,
                may_pass=adapter.may_pass(status, content),
                retry_after=retry_after(headers),
                is_free=status >= 300 and status not in _MAYBE_DONE,
                left=rate_limits(headers),
            )
        reply = _reply(adapter, content)
        if reply is None:
            body = self._safe(content.decode(errors="replace"))
            raise LLMRequestError(
                f"{where} did not send a chat completion but: {body or 'an empty body'} (check base_url)",
                status=status,
                body=body,
                may_pass=True,
            )
        return ChatAnswer(
            text=reply.text,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            model=request.model,
            endpoint=self._endpoint.label,
            seconds=seconds,
            left=rate_limits(headers),
        )

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _headers(self) -> Mapping[str, str]:
        return self._endpoint.adapter.headers(self._api_key.get_secret_value() if self._api_key else None)

    def _safe(self, text: str) -> str:
        text = " ".join(self._mask.hidden(text).split())
        return text if len(text) <= _BODY_CHARS else text[:_BODY_CHARS] + "…"


def checked_key(api_key: str | None) -> SecretStr | None:
    """Return the key, wrapped so that it does not show, or None when it is blank.

    Raises:
        ConfigError: when it cannot be sent; the message does not show it.
    """
    key = (api_key or "").strip()
    if not key.isascii() or not key.isprintable():
        raise ConfigError("api_key holds characters that cannot be sent in an HTTP header")
    return SecretStr(key) if key else None


def _reply(adapter: ChatAdapter, content: bytes) -> Reply | None:
    try:
        reply = adapter.read(orjson.loads(content))
    except (LookupError, TypeError, AttributeError, ValueError):
        return None
    return reply if reply.text is None or isinstance(reply.text, str) else None
