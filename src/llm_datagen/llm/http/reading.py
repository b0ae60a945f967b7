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
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    found = counts_of({name: usage.get(name) for name in _COUNTS} | {"cached_tokens": cached})
    return found if found.get("cached_tokens") else {name: found[name] for name in _COUNTS if name in found}


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
