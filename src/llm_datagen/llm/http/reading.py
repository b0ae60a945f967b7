"""What answers hold, in the forms that endpoints have for it: texts in parts, thoughts, counts of tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class Content(NamedTuple):
    """What the content of a message holds.

    Attributes:
        text: its texts as one; None when it has none.
        reasoning: its thoughts; None when it has none.
        refusal: what the model said in place of an answer; None when it did not refuse.
    """

    text: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


def content_of(content: Any) -> Content:
    """Return what a content holds: a text, or a list of parts (texts, thoughts, refusals), or nothing.

    Raises:
        TypeError: when it is something else.
    """
    if content is None:
        return Content()
    if isinstance(content, str):
        return Content(content)
    if not isinstance(content, list):
        raise TypeError(f"a content cannot be of type {type(content).__name__}")
    return Content(*(_joined(content, *names) for names in (("text", "output_text"), ("thinking",), ("refusal",))))


def _joined(parts: list[Any], *kinds: str) -> str | None:
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts += [part] if "text" in kinds else []
        elif part.get("type") in kinds:
            inner = part.get("text" if "text" in kinds else kinds[0])
            text = inner if isinstance(inner, str) else content_of(inner).text  # thoughts may have parts of their own
            texts += [] if text is None else [text]
    return "".join(texts) if texts else None


def chat_counts(usage: Any) -> dict[str, int]:
    """Return the counts in the ``usage`` of a chat completion: those that are numbers; no fault in it is an error."""
    if not isinstance(usage, Mapping):
        return {}
    found = counts_of({name: usage.get(name) for name in _COUNTS})
    parts = {
        "cached_tokens": inner(usage, "prompt_tokens_details", "cached_tokens"),
        "reasoning_tokens": inner(usage, "completion_tokens_details", "reasoning_tokens"),
    }
    return found | {name: count for name, count in counts_of(parts).items() if count}


def named_counts(
    *,
    prompt: int,
    completion: int,
    total: int | None = None,
    cached: int | None = None,
    written: int | None = None,
    reasoning: int | None = None,
) -> dict[str, int]:
    """Return counts under the names of chat completions, without parts of which there is nothing.

    Args:
        prompt: all tokens of the prompt.
        completion: all tokens of the answer.
        total: of both; None: their sum.
        cached: those of the prompt that came from the provider's cache.
        written: those of the prompt that went into it.
        reasoning: those of the answer that are thoughts.
    """
    sum_of_both = prompt + completion
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": sum_of_both if total is None else total,
    }
    parts = {"cached_tokens": cached, "cache_write_tokens": written, "reasoning_tokens": reasoning}
    return counts | {name: count for name, count in parts.items() if count}


def inner(data: Any, *names: str) -> Any:
    """Return what objects within objects have under these names; None where one of them is missing, or is no object."""
    for name in names:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def counts_of(usage: Any) -> dict[str, int]:
    """Return what can be taken for counts, as whole numbers: a fraction is rounded up."""
    if not isinstance(usage, Mapping):
        return {}
    found = {name: whole(value) for name, value in usage.items()}
    return {name: count for name, count in found.items() if count is not None}


def whole(value: Any) -> int | None:
    """Return a number as a whole one, rounded up; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return math.ceil(value)


def other_model(reported: Any, asked: str) -> str | None:
    """Return the model that an endpoint says has answered, when that is not the one that was asked."""
    return reported if isinstance(reported, str) and reported not in ("", asked) else None
