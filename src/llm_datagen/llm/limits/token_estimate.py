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
_IN_PROMPT = ("response_format", "tools")
"""Params that endpoints make a part of the prompt."""


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
        completion = answer_limit(request.params)
        if completion is None and request.operation != "chat":
            completion = 0  # vectors and scores are no tokens
        elif completion is None:
            completion = _FIRST_COMPLETION if not self._answers else math.ceil(self._completion * _MARGIN)
        return math.ceil(size_of(request) * share) + completion * request.choices

    def learn(self, request: ChatRequest, answer: ChatAnswer) -> None:
        """Learn from what a call has used."""
        prompt = answer.usage.get("prompt_tokens")
        if prompt is None:
            return
        self._answers += 1
        self._tokens_per_byte = max(self._tokens_per_byte, prompt / size_of(request))
        of_one = math.ceil(answer.usage.get("completion_tokens", 0) / (1 + len(answer.others)))
        self._completion = max(self._completion, of_one)


def least_tokens(request: ChatRequest) -> int:
    """Return how many tokens the call asks for in any case: its text, in long tokens, and its `max_tokens`."""
    texts, _ = _texts_and_images(request)
    return sum(map(len, texts)) // _MOST_BYTES_PER_TOKEN + request.choices * (answer_limit(request.params) or 0)


def answer_limit(params: Mapping[str, Any]) -> int | None:
    """Return how many tokens an answer has at most, by the fields of the request; None when they do not say.

    Of two limits the higher one counts: an endpoint may know only that one.
    """
    if not params:
        return None
    limits = [params[key] for key in ("max_completion_tokens", "max_tokens") if type(params.get(key)) is int]
    return max(limits, default=None)


def prompt_and_output(usage: Mapping[str, int]) -> tuple[int, int]:
    """Return the prompt's tokens, and all others that were made: some endpoints count thoughts in the total only."""
    prompt = usage.get("prompt_tokens", 0)
    return prompt, max(usage.get("completion_tokens", 0), usage.get("total_tokens", 0) - prompt)


def used_tokens(usage: Mapping[str, int]) -> int | None:
    """Return what a call has used; None when the endpoint did not say."""
    is_told = "total_tokens" in usage or "prompt_tokens" in usage
    return sum(prompt_and_output(usage)) if is_told else None


def size_of(request: ChatRequest) -> int:
    """Return the size of a prompt in bytes of text; an image counts like a text of a certain size."""
    texts, images = _texts_and_images(request)
    beside = [request.params[name] for name in _IN_PROMPT if name in request.params]
    beside += [message["tool_calls"] for message in request.messages if "tool_calls" in message]
    size = sum(len(text) if text.isascii() else len(text.encode(errors="replace")) for text in texts)
    size += len(request.messages) * _MESSAGE_BYTES + images * _IMAGE_BYTES + sum(len(str(each)) for each in beside)
    return max(size, 1)


def _texts_and_images(request: ChatRequest) -> tuple[list[str], int]:
    """Return the texts of the messages, and how many of their parts are none."""
    texts, images = [], 0
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Mapping) and isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                images += 1
    return texts, images
