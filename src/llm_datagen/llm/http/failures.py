"""The errors of a call that brought no answer: what happened, at which endpoint, for which row, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.http.adapters import Reply
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.body import DamagedBodyError, is_text
from llm_datagen.llm.http.error_meaning import HINTS, OK, is_filtered, may_pass
from llm_datagen.llm.http.network import CA_VARIABLES, is_local_shortage
from llm_datagen.llm.http.network_errors import ConnectError
from llm_datagen.llm.http.reading import counts_of
from llm_datagen.llm.http.redaction import Redaction
from llm_datagen.llm.http.response import ERROR_BYTES, Response
from llm_datagen.llm.http.streaming.errors import BrokenStreamError, LateTokenError
from llm_datagen.llm.limits.headers import rate_limits, retry_after
from llm_datagen.llm.types import ChatRequest
from llm_datagen.streams.formats.json_text import without_lone_surrogates

MODEL_CHARS = 300
_BODY_CHARS = 300
WORD_CHARS = 60
_MOST_WORDS = 100
_MAYBE_DONE = {408, 499, 502, 504, 520, 522, 524}
"""Statuses of proxies that did not wait for the answer: the call may have been made, and paid for."""
_BAD_GATEWAY = 502
"""What a body that is no answer amounts to: something else answers there."""
_WANTED = {"chat": "a chat completion", "embeddings": "embeddings", "rerank": "scores"}
_HELD_IN = {"chat": ("choices",), "embeddings": ("data", "embeddings"), "rerank": ("results", "data")}
"""The fields by which a body is seen to be of the API, although the answer in it cannot be read."""
_NOT_DONE = (400, 401, 402, 403, 404, 413, 422, 429)
"""What a failure amounts to that came before any work."""


class Failures:
    """Makes the errors of one endpoint. They show no secret.

    Args:
        address: where calls go.
        redaction: knows the secrets.
        timeout: seconds that a call may take in all.
        max_response_bytes: the longest body of an answer.
        label: the URL as errors show it; None: that of the calls.
    """

    def __init__(
        self,
        address: Address,
        redaction: Redaction,
        *,
        timeout: float,
        max_response_bytes: int,
        label: str | None = None,
    ) -> None:
        self._address = address
        self._label = address.label if label is None else label
        self._redaction = redaction
        self._timeout = timeout
        self._max_response_bytes = max_response_bytes
        self._words: dict[tuple[str, int], str] = {}

    def timed_out(self, request: ChatRequest, status: int | None) -> LLMRequestError:
        """Return the error of a call whose answer did not come in time.

        Args:
            request: the call.
            status: of the response; None when there was none yet. Also for the next ones.
        """
        return LLMRequestError(
            f"no answer within {self._timeout:g} s from {self._where(request)}: raise timeout, or lower parallel_size",
            may_pass=True,
            is_served=status == OK,
        )

    def late_token(self, late: LateTokenError, request: ChatRequest, status: int | None) -> LLMRequestError:
        """Return the error of an answer that is streamed, and one of whose tokens did not come in time."""
        return LLMRequestError(
            f"no {late.which} token within {late.seconds:g} s from {self._where(request)}: raise {late.option} of "
            "stream, or lower parallel_size",
            may_pass=True,
            is_served=status == OK,
        )

    def broken_stream(self, error: BrokenStreamError, request: ChatRequest) -> LLMRequestError:
        """Return the error of an answer that is streamed, and did not come to its end, or cannot be read."""
        return LLMRequestError(
            f"the answer of {self._where(request)} broke off: {self.safe(str(error))} (resume to try again)",
            status=OK,
            may_pass=True,
            is_served=True,
            broke_off=True,
        )

    def damaged(self, error: DamagedBodyError, request: ChatRequest, status: int | None) -> LLMRequestError:
        """Return the error of a response whose body cannot be unpacked."""
        return LLMRequestError(
            f"{self._where(request)} sent a damaged body: {error} (check base_url)",
            status=status,
            may_pass=True,
            amounts_to=_BAD_GATEWAY,
            is_served=status == OK,
        )

    def unconnected(self, error: OSError, request: ChatRequest, status: int | None) -> LLMRequestError:
        """Return the error of a connection that was not made, or failed."""
        detail, where = self.safe(str(error)) or type(error).__name__, self._where(request)
        failure = error if isinstance(error, ConnectError) else None
        if is_local_shortage(error):
            return LLMRequestError(
                f"this machine has no files or ports left for a call: {detail} ({where}): lower parallel_size, or "
                "raise the limit of open files (ulimit -n)",
                may_pass=True,
                is_free=True,
                is_local=True,
            )
        if failure is not None and failure.proxy_status is not None:
            return LLMRequestError(
                f"the proxy of the environment refused: {detail} ({where}): check it, or name the host in no_proxy",
                may_pass=may_pass(failure.proxy_status),
                is_free=True,
                amounts_to=failure.proxy_status,
            )
        advice = "check base_url and that the server is up"
        if failure is not None and failure.is_untrusted:
            advice = f"check base_url, or name a file of certificates to trust in {CA_VARIABLES[0]}"
        return LLMRequestError(
            f"the connection failed: {detail} ({where}): {advice}",
            may_pass=failure is None or failure.may_pass,
            is_free=failure is not None,
            is_served=status == OK,
        )

    def refused(self, response: Response, data: Any, request: ChatRequest) -> LLMRequestError:
        """Return the error of a response that says that it is none, or is too long to be one."""
        status, adapter, where = response.status, self._address.adapter, self._where(request)
        if status == OK and response.is_cut:
            return LLMRequestError(
                f"{where} sent more than {self._max_response_bytes:,} bytes: raise max_response_bytes, or ask for less",
                status=status,
                is_served=True,
                left=rate_limits(response.headers),
            )
        means, body, usage = adapter.amounts_to(status, data), self._body(response), self._usage(data)
        has_worked = bool(usage) or response.has_begun
        if status == OK and has_worked and means >= 500:
            means = OK  # it did work on it, so it is there
        hint = HINTS.get(means, "the server failed: resume to try again")
        if 300 <= status < 400:
            where_to = self.safe(response.headers.get("Location", "")) or "an address that it does not tell"
            hint = f"it redirects to {where_to}, and redirects are not followed: check base_url"
        if means == 401 and adapter.api_key_env:
            hint = f"check api_key, or the environment variable {adapter.api_key_env}"
        if means == 400 and is_filtered(data):
            hint = "a content filter refused the prompt: change or drop the row"
        wait = retry_after(response.headers)
        is_free = means in _NOT_DONE and not has_worked if status == OK else status >= 300 and status not in _MAYBE_DONE
        return LLMRequestError(
            f"HTTP {status} from {where}: {_told(body, response)} ({hint})",
            status=status,
            body=body,
            may_pass=means == OK or adapter.may_pass(means, response.content),
            retry_after=adapter.retry_after(data) if wait is None else wait,
            is_free=is_free,
            left=rate_limits(response.headers),
            amounts_to=means,
            usage=usage,
            is_served=status == OK,
        )

    def unreadable(self, response: Response, data: Any, request: ChatRequest) -> LLMRequestError:
        """Return the error of a body in which there is no answer: of this call, or of something else that answers."""
        usage = self._usage(data)
        is_there = bool(usage) or (
            isinstance(data, Mapping)
            and any(isinstance(data.get(name, ""), list | None) for name in _HELD_IN[request.operation])
        )
        body = self._body(response)
        no_answer = "no answer is in it" if is_text(response.content) else "it is not UTF-8: characters are lost"
        return LLMRequestError(
            f"{self._where(request)} did not send {_WANTED[request.operation]} but: {_told(body, response)} "
            + (f"({no_answer}: resume to try again)" if is_there else "(check base_url)"),
            status=response.status,
            body=body,
            may_pass=True,
            amounts_to=OK if is_there else _BAD_GATEWAY,
            usage=usage,
            is_served=True,
            left=rate_limits(response.headers),
        )

    def failed_answer(
        self, response: Response, reply: Reply, word: str | None, request: ChatRequest
    ) -> LLMRequestError:
        """Return the error of an answer during which the endpoint failed, as its `word` says."""
        return LLMRequestError(
            f"{self._where(request)} failed while it answered (finish_reason {word!r}): resume to try again",
            status=OK,
            body=self.safe((reply.text or "")[:ERROR_BYTES]),
            may_pass=True,
            usage=counts_of(reply.usage),
            is_served=True,
            left=rate_limits(response.headers),
        )

    def safe(self, text: str, most: int = _BODY_CHARS) -> str:
        """Return a text of the endpoint as an error may show it: one line of Unicode, without secrets, not too long."""
        text = without_lone_surrogates(" ".join(self._redaction.redacted(text).split()))
        return text if len(text) <= most else text[:most] + "…"

    def word(self, text: str, most: int = WORD_CHARS) -> str:
        """Return a word of the endpoint, see `safe`. Most answers have the same few: why they end, the model's name."""
        found = self._words.get((text, most))
        if found is None:
            found = self.safe(text, most)
            if len(self._words) < _MOST_WORDS:
                self._words[text, most] = found
        return found

    def _usage(self, data: Any) -> Mapping[str, int]:
        try:
            return counts_of(self._address.adapter.usage(data))
        except (LookupError, TypeError, AttributeError, ValueError):
            return {}

    def _where(self, request: ChatRequest) -> str:
        return f"{self._label}, {request.row}"

    def _body(self, response: Response) -> str:
        return self.safe(response.content[:ERROR_BYTES].decode(errors="replace"))


def _told(body: str, response: Response) -> str:
    if body or not response.content:
        return body or "an empty body"
    return f"{'more than ' if response.is_cut else ''}{len(response.content):,} bytes of blanks"
