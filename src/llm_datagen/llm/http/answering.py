"""What a response says, judged the same way whether it came from a call or from a job: an answer, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.http.adapters import Reply
from llm_datagen.llm.http.address import Address
from llm_datagen.llm.http.body import is_text, parsed_or_none
from llm_datagen.llm.http.error_meaning import OK, error_in
from llm_datagen.llm.http.failures import MODEL_CHARS, Failures
from llm_datagen.llm.http.reading import counts_of, other_model
from llm_datagen.llm.http.response import Response
from llm_datagen.llm.limits.headers import rate_limits
from llm_datagen.llm.limits.token_estimate import answer_limit
from llm_datagen.llm.types import ChatAnswer, ChatRequest


class Answering:
    """Makes answers of responses.

    Args:
        address: where they come from.
        failures: makes the errors.
    """

    def __init__(self, address: Address, failures: Failures) -> None:
        self._address = address
        self._failures = failures

    def answer(self, response: Response, request: ChatRequest, seconds: float) -> ChatAnswer:
        """Return the answer that a response holds.

        Args:
            response: what came back.
            request: what it answers.
            seconds: from the request to the last byte.

        Raises:
            LLMRequestError: when there is no answer in it.
        """
        data = parsed_or_none(response.content)
        if response.status != OK or error_in(data) is not None or response.is_cut:
            raise self._failures.refused(response, data, request)
        replies = self._replies(data, request)
        if not replies or not is_text(response.content):
            raise self._failures.unreadable(response, data, request)
        if len(replies) == 1:
            return self._one(replies[0], response, request, seconds)
        first, *others = [self._one(reply, response, request, seconds) for reply in replies]
        return replace(first, others=tuple(others))

    def _one(self, reply: Reply, response: Response, request: ChatRequest, seconds: float) -> ChatAnswer:
        reason = _reason_of(reply)
        word = None if reason is None else self._failures.word(reason)
        ending = self._address.adapter.ending(reason)
        if ending is Ending.FAILED:
            raise self._failures.failed_answer(response, reply, word, request)
        usage, limit = counts_of(reply.usage), answer_limit(request.params)
        other = other_model(reply.model, request.model)
        if word is None and limit is not None and usage.get("completion_tokens", 0) >= limit * request.choices:
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
            response_model=other and self._failures.word(other, MODEL_CHARS),
        )

    def _replies(self, data: Any, request: ChatRequest) -> list[Reply]:
        """Return the answers of a response; none when it cannot be read.

        Of several, one during which the endpoint failed is none: it is asked for again.
        """
        if request.choices == 1:
            reply = self._read(data)
            return [] if reply is None else [reply]
        adapter = self._address.adapter
        try:
            bodies = adapter.choices_in(data)
        except (LookupError, TypeError, AttributeError, ValueError):
            return []
        replies = [reply for reply in map(self._read, bodies) if reply is not None]
        whole = [reply for reply in replies if adapter.ending(_reason_of(reply)) is not Ending.FAILED]
        return whole or replies[:1]

    def _read(self, data: Any) -> Reply | None:
        try:
            reply = self._address.adapter.read(data)
        except (LookupError, TypeError, AttributeError, ValueError):
            return None
        return reply if reply.text is None or isinstance(reply.text, str) else None

    def _redacted(self, extras: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return them with a refusal that can be shown in an error."""
        return {**extras, "refusal": self._failures.safe(str(extras["refusal"]))} if "refusal" in extras else extras


def _reason_of(reply: Reply) -> str | None:
    return None if reply.finish_reason is None else str(reply.finish_reason)
