"""How many tokens a call may use, before it is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.types import ChatAnswer, ChatRequest

_FIRST_ANSWERS = 10
_MARGIN = 1.25
_FIRST_COMPLETION = 1000
_MESSAGE_BYTES = 32
_IMAGE_BYTES = 2000
_MOST_BYTES_PER_TOKEN = 8


class TokenEstimate:
    """Estimates from above, and learns from answers how far above it has to be.

    Of a prompt: at first a token for each byte, for no tokenizer makes more of a text; after ten answers, the highest
    share of tokens that was seen, and a quarter more. Of an answer: `max_tokens` of the request; without one, a
    quarter more than the longest that was seen.
    """

    def __init__(self) -> None:
        self._answers = 0
        self._tokens_per_byte = 0.0
        self._completion = 0

    def most(self, request: ChatRequest) -> int:
        """Return how many tokens the call may use."""
        share = 1.0 if self._answers < _FIRST_ANSWERS else self._tokens_per_byte * _MARGIN
        completion = max_completion(request)
        if completion is None:
            completion = _FIRST_COMPLETION if not self._answers else math.ceil(self._completion * _MARGIN)
        return math.ceil(size_of(request) * share) + completion

    def learn(self, request: ChatRequest, answer: ChatAnswer) -> None:
        """Learn from what a call has used."""
        prompt = answer.usage.get("prompt_tokens")
        if prompt is None:
            return
        self._answers += 1
        self._tokens_per_byte = max(self._tokens_per_byte, prompt / size_of(request))
        self._completion = max(self._completion, answer.usage.get("completion_tokens", 0))


def least_tokens(request: ChatRequest) -> int:
    """Return how many tokens the call asks for in any case: its text, in long tokens, and its `max_tokens`."""
    chars = sum(_text_chars(message.get("content")) for message in request.messages)
    return chars // _MOST_BYTES_PER_TOKEN + (max_completion(request) or 0)


def used_tokens(answer: ChatAnswer) -> int | None:
    """Return what a call has used; None when the endpoint did not say."""
    usage = answer.usage
    if "total_tokens" in usage:
        return usage["total_tokens"]
    if "prompt_tokens" in usage:
        return usage["prompt_tokens"] + usage.get("completion_tokens", 0)
    return None


def max_completion(request: ChatRequest) -> int | None:
    """Return the most tokens that the request lets its answer have; None when it does not say."""
    for name in ("max_completion_tokens", "max_tokens"):
        value = request.params.get(name)
        if isinstance(value, int):
            return value
    return None


def size_of(request: ChatRequest) -> int:
    """Return the size of a prompt in bytes of text; an image counts like a text of a certain size."""
    schema = request.params.get("response_format")
    size = 0 if schema is None else len(str(schema))
    for message in request.messages:
        size += _MESSAGE_BYTES + _content_bytes(message.get("content"))
    return max(size, 1)


def _content_bytes(content: Any) -> int:
    if isinstance(content, str):
        return len(content) if content.isascii() else len(content.encode(errors="replace"))
    if isinstance(content, list):
        return sum(_content_bytes(part["text"]) if _is_text(part) else _IMAGE_BYTES for part in content)
    return 0


def _text_chars(content: Any) -> int:
    if isinstance(content, str):
        return len(content)
    return sum(len(part["text"]) for part in content if _is_text(part)) if isinstance(content, list) else 0


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)
