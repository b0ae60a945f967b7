"""One call to an OpenAI-compatible endpoint: ``POST {base_url}/chat/completions``."""

from __future__ import annotations

import time
from dataclasses import replace

import aiohttp
import orjson
from pydantic import SecretStr
from yarl import URL

from llm_datagen.errors import ConfigError
from llm_datagen.llm.chat import ChatAnswer, ChatRequest
from llm_datagen.llm.errors import LLMError, LLMRequestError
from llm_datagen.llm.headers import rate_limits, retry_after

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_BODY_CHARS = 300
_HINTS = {
    400: "check model, params and the schema",
    401: "check api_key, or the environment variable OPENAI_API_KEY",
    403: "check that the key may use this model",
    404: "check base_url and model",
    413: "the prompt is too long for this endpoint",
    429: "too many calls at once, or no credit left: lower parallel_size, then resume",
}


class Endpoint:
    """Where calls go, checked: an http(s) URL without credentials.

    Args:
        base_url: such as ``https://api.openai.com/v1``.

    Attributes:
        host: the host's name, which stands for the provider in reports.
        label: the URL of the calls as errors show it.

    Raises:
        ConfigError: when `base_url` cannot be used.
    """

    def __init__(self, base_url: str) -> None:
        try:
            url = URL(base_url)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"base_url is not a URL: {error}") from error
        if url.user is not None or url.password is not None:
            raise ConfigError("base_url holds a user or password: give the key as api_key instead")
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"base_url must start with http:// or https:// and a host, not {base_url!r}")
        self.url = url.with_path(url.raw_path.rstrip("/") + "/chat/completions", encoded=True, keep_query=True)
        self.host = url.host
        self.label = str(self.url.with_query(None))

    @property
    def is_loopback(self) -> bool:
        """Whether the calls stay on this machine."""
        return self.host in _LOOPBACK


class HttpCaller:
    """Makes every call by one HTTP request, tried once.

    Args:
        endpoint: where calls go.
        api_key: sent as a bearer token; None sends none.
        timeout: seconds that one call may take in all.
    """

    def __init__(self, endpoint: Endpoint, api_key: SecretStr | None, timeout: float) -> None:
        self._endpoint = endpoint
        self._api_key = api_key
        self._timeout = timeout
        self._http: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the calls."""
        self._http = aiohttp.ClientSession(
            headers={"Content-Type": "application/json"} | bearer(self._api_key),
            timeout=aiohttp.ClientTimeout(total=self._timeout, sock_connect=min(self._timeout, 10.0)),
            connector=aiohttp.TCPConnector(limit=0),  # how many calls are open at once is the node's affair
            cookie_jar=aiohttp.DummyCookieJar(),
            # A proxy of the environment cannot reach this machine's loopback.
            trust_env=not self._endpoint.is_loopback,
        )

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request and return what came back.

        Raises:
            LLMRequestError: when no chat completion came back.
        """
        if self._http is None:
            raise LLMError("the caller was called before open()")
        where = f"{self._endpoint.label}, {request.row}"
        payload = {**request.params, "model": request.model, "messages": request.messages}
        started = time.perf_counter()
        try:
            # A redirect is not followed: the key would go along.
            async with self._http.post(
                self._endpoint.url, data=orjson.dumps(payload), allow_redirects=False
            ) as response:
                status, headers, content = response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise LLMRequestError(
                f"no answer within {self._timeout:g} s from {where}: raise timeout, or lower parallel_size",
                may_pass=True,
            ) from error
        except aiohttp.ClientError as error:
            detail = self._safe(str(error)) or type(error).__name__
            raise LLMRequestError(
                f"the connection failed: {detail} ({where}): check base_url and that the server is up",
                may_pass=not isinstance(error, aiohttp.ClientSSLError | aiohttp.InvalidURL),
            ) from error
        seconds = time.perf_counter() - started
        if status != 200:
            body = self._safe(content.decode(errors="replace"))
            hint = _HINTS.get(status, "the server failed: resume to try again")
            raise LLMRequestError(
                f"HTTP {status} from {where}: {body or 'an empty body'} ({hint})",
                status=status,
                body=body,
                # A used-up quota comes as 429, too, and is not there again in a minute.
                may_pass=_may_pass(status) and b"insufficient_quota" not in content,
                retry_after=retry_after(headers),
                left=rate_limits(headers),
            )
        answer = _answer(content, request.model, self._endpoint.label, seconds)
        if answer is None:
            body = self._safe(content.decode(errors="replace"))
            raise LLMRequestError(
                f"{where} did not send a chat completion but: {body or 'an empty body'} (check base_url)",
                status=status,
                body=body,
                may_pass=True,
            )
        left = rate_limits(headers)
        return answer if left is None else replace(answer, left=left)

    async def close(self) -> None:
        """Close every connection."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _safe(self, text: str) -> str:
        key = self._api_key.get_secret_value() if self._api_key else ""
        if key:
            text = text.replace(key, "***")
        text = " ".join(text.split())
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


def bearer(api_key: SecretStr | None) -> dict[str, str]:
    """Return the header that carries the key."""
    return {"Authorization": f"Bearer {api_key.get_secret_value()}"} if api_key else {}


def _may_pass(status: int) -> bool:
    """Return whether what ended in `status` may succeed later: timeouts, conflicts, limits, faults of the server."""
    return status in (408, 409, 425, 429) or status >= 500


def _answer(body: bytes, model: str, endpoint: str, seconds: float) -> ChatAnswer | None:
    try:
        data = orjson.loads(body)
        choice = data["choices"][0]
        text, reason = choice["message"].get("content"), choice.get("finish_reason")
        usage = data.get("usage") or {}
        counts = {key: value for key, value in usage.items() if key in _COUNTS and isinstance(value, int)}
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if text is not None and not isinstance(text, str):
        return None
    return ChatAnswer(text=text, finish_reason=reason, usage=counts, model=model, endpoint=endpoint, seconds=seconds)


_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
