"""One call to an endpoint, by HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.errors import LLMError
from llm_datagen.llm.http.access import Access
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.answering import Answering
from llm_datagen.llm.http.body import MAX_RESPONSE_BYTES, DamagedBodyError
from llm_datagen.llm.http.direct.direct_post import DirectPost
from llm_datagen.llm.http.failures import Failures
from llm_datagen.llm.http.post import Post
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.http.streaming.errors import BrokenStreamError, LateTokenError
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.llm.secret import Secret
from llm_datagen.llm.types import ChatAnswer, ChatRequest


class HttpTransport:
    """Makes every call by one HTTP request, tried once.

    Args:
        address: where calls go.
        api_key: sent as the adapter does it; None sends none.
        timeout: seconds that one call may take in all.
        max_response_bytes: the longest body of an answer, unpacked.
        stream: how answers are streamed; None: they are not.
    """

    def __init__(
        self,
        address: Address,
        api_key: Secret | None,
        timeout: float,
        *,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        stream: Stream | None = None,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._max_response_bytes = max_response_bytes
        self._stream = stream
        self._access = Access(address, api_key)
        self._post: Post | None = None
        self._judge()

    async def open(self) -> None:
        """Open the HTTP client. Connections are made by the calls.

        Raises:
            ConfigError: when the environment names a proxy, or certificates, that cannot be used.
        """
        await self._access.open()
        self._judge()
        self._post = self._chosen_post()

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Send the request and return what came back.

        Raises:
            LLMRequestError: when no answer came back.
            PromptError: when the adapter cannot put the request.
        """
        body = self._address.adapter.body(request)
        started = time.perf_counter()
        response = await self._send(body, request)
        seconds = time.perf_counter() - started
        return self._answering.answer(response, request, seconds)

    async def close(self) -> None:
        """Close every connection."""
        post, self._post = self._post, None
        if post is not None:
            await post.close()

    def _chosen_post(self) -> Post:
        """Return what posts the calls. Only what needs aiohttp imports it, which takes long."""
        if self._stream is not None:
            from llm_datagen.llm.http.sessions.stream_post import StreamPost

            return StreamPost(self._address, self._access, self._timeout, self._stream, self._max_response_bytes)
        if self._access.proxy is not None:
            from llm_datagen.llm.http.sessions.session_post import SessionPost

            return SessionPost(self._address.url, self._access, self._timeout, self._max_response_bytes)
        return DirectPost(self._address.url, self._access, self._timeout, self._max_response_bytes)

    async def _send(self, body: Mapping[str, Any], request: ChatRequest) -> Response:
        """Send it, and read what comes back as far as it may go."""
        status: int | None = None

        def begun(given: int) -> None:
            nonlocal status
            status = given

        if self._post is None:
            raise LLMError("the transport was called before open()")
        try:
            return await self._post.send(body, begun)
        except LateTokenError as error:
            raise self._failures.late_token(error, request, status) from error
        except TimeoutError as error:
            raise self._failures.timed_out(request, status) from error
        except BrokenStreamError as error:
            raise self._failures.broken_stream(error, request) from None  # it quotes what the endpoint sent
        except DamagedBodyError as error:
            raise self._failures.damaged(error, request, status) from error
        except OSError as error:
            raise self._failures.unconnected(error, request, status) from self._access.redaction.cause(error)

    def _judge(self) -> None:
        """Judge responses by the secrets that are known now."""
        self._failures = Failures(
            self._address,
            self._access.redaction,
            timeout=self._timeout,
            max_response_bytes=self._max_response_bytes,
        )
        self._answering = Answering(self._address, self._failures)
