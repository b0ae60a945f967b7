"""Makes calls by litellm, in the place of `HttpTransport`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import Any

import orjson

from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.answering import Answering
from llm_datagen.llm.http.error_meaning import OK
from llm_datagen.llm.http.failures import Failures
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.litellm.library import litellm
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.operators.secret_names import is_secret_name

_CODES = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_filter",
    "PaymentRequiredError": "insufficient_quota",
    "Timeout": "timeout",
}
"""What other APIs call these exceptions."""
_NO_STATUS = (TypeError, ValueError)
"""What the library raises of a request that it cannot put."""


class LiteLLMTransport:
    """Makes every call by ``litellm.acompletion``, tried once.

    Args:
        base_url: where calls go; None: the library knows.
        address: stands for that in messages and reports.
        api_key: given to the library; None: it finds one in the environment.
        timeout: seconds that one call may take in all.
    """

    def __init__(self, base_url: str | None, address: Address, api_key: Secret | None, timeout: float) -> None:
        self._base_url = base_url
        self._address = address
        self._api_key = api_key
        self._timeout = timeout
        secrets = [value for name, value in os.environ.items() if is_secret_name(name)]
        self._failures = Failures(
            address, Redaction(api_key, address.url, *secrets), timeout=timeout, max_response_bytes=1 << 62
        )
        self._answering = Answering(address, self._failures)
        self._library: Any = None

    async def open(self) -> None:
        """Import the library.

        Raises:
            ConfigError: when it is not installed.
        """
        self._library = await asyncio.to_thread(litellm)

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Make the call, and return what came back.

        Raises:
            LLMRequestError: when there is no answer.
        """
        if self._library is None:
            raise LLMError("the transport was called before open()")
        started = time.perf_counter()
        response = await self._made(request)
        if response is None:
            raise self._failures.timed_out(request, None)
        return self._answering.answer(response, request, time.perf_counter() - started)

    async def close(self) -> None:
        """Do nothing: the library keeps its connections for all who use it."""

    async def _made(self, request: ChatRequest) -> Response | None:
        """Make the call, and return what came back as if it were a response; None: nothing in time."""
        given = {
            "api_base": self._base_url,
            "api_key": None if self._api_key is None else self._api_key.get_secret_value(),
        }
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._library.acompletion(
                    **self._address.adapter.body(request),
                    **{name: value for name, value in given.items() if value is not None},
                    timeout=self._timeout,
                    num_retries=0,
                    max_retries=0,
                )
        except TimeoutError:
            return None
        except Exception as error:  # noqa: BLE001 - each provider's errors come as they please
            return _refusal(error)
        return Response(OK, _headers(answer), orjson.dumps(answer.model_dump(), default=str), False)


def _refusal(error: Exception) -> Response:
    """Return what a provider would have sent. Not raised from the exception, whose traceback may show keys."""
    told = getattr(error, "status_code", None)
    status = told if isinstance(told, int) and told >= 300 else 400 if isinstance(error, _NO_STATUS) else 500
    kind = type(error).__name__
    body = {"error": {"message": str(error), "type": kind, "code": _CODES.get(kind)}}
    return Response(status, _headers(error), orjson.dumps(body), False)


def _headers(found: Any) -> Mapping[str, str]:
    """Return the headers that came with an answer, or an exception, by names in small letters."""
    hidden = getattr(found, "_hidden_params", None) or {}
    headers = hidden.get("headers") or getattr(getattr(found, "response", None), "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in dict(headers).items()}
