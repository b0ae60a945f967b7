"""What answers hold, in the forms that endpoints have for it: texts in parts, thoughts, counts of tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_PARTS = {
    "cached_tokens": ("prompt_tokens_details", "cached_tokens"),
    "cache_write_tokens": ("prompt_tokens_details", "cache_write_tokens"),
    "reasoning_tokens": ("completion_tokens_details", "reasoning_tokens"),
}
"""Parts of the counts, and where a chat completion has them."""


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
    if not isinstance(usage, dict | Mapping):  # a plain dict is found out sooner
        return {}
    found = {}
    for name in _COUNTS:
        value = usage.get(name)
        count = value if value.__class__ is int else whole(value)  # nearly all are
        if count is not None:
            found[name] = count
    if usage.get("prompt_tokens_details") or usage.get("completion_tokens_details"):
        for name, (details, part) in _PARTS.items():
            count = whole(inner(usage, details, part))
            if count:
                found[name] = count
    return found


def input_counts(data: Any) -> dict[str, int]:
    """Return the counts of an answer that has no tokens of its own; some endpoints say the total only."""
    found = counts_of(inner(data, "usage"))
    tokens = found.get("prompt_tokens") or found.get("total_tokens")
    return {} if tokens is None else named_counts(prompt=tokens, completion=0)


def named_counts(
    *,
    prompt: int,
    completion: int,
    total: int | None = None,
    cached: int | None = None,
    written: int | None = None,
    written_5m: int | None = None,
    reasoning: int | None = None,
) -> dict[str, int]:
    """Return counts under the names of chat completions, without parts of which there is nothing.

    Args:
        prompt: all tokens of the prompt.
        completion: all tokens of the answer.
        total: of both; None: their sum.
        cached: those of the prompt that came from the provider's cache.
        written: those of the prompt that went into it.
        written_5m: those of them that stay there for five minutes, which is cheaper than an hour.
        reasoning: those of the answer that are thoughts.
    """
    sum_of_both = prompt + completion
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": sum_of_both if total is None else total,
    }
    parts = {
        "cached_tokens": cached,
        "cache_write_tokens": written,
        "cache_write_5m_tokens": written_5m,
        "reasoning_tokens": reasoning,
    }
    return counts | {name: count for name, count in parts.items() if count}


def inner(data: Any, *names: str) -> Any:
    """Return what objects within objects have under these names; None where one of them is missing, or is no object."""
    for name in names:
        if data is None:
            return None
        data = data.get(name) if isinstance(data, dict | Mapping) else None
    return data


def counts_of(usage: Any) -> dict[str, int]:
    """Return what can be taken for counts, as whole numbers: a fraction is rounded up."""
    if not isinstance(usage, dict | Mapping):  # a plain dict is found out sooner
        return {}
    found = {}
    for name, value in usage.items():
        count = value if value.__class__ is int else whole(value)  # nearly all are
        if count is not None:
            found[name] = count
    return found


def by_index(entries: Sequence[Mapping[str, Any]], name: str, *, needs_index: bool = False) -> list[Any]:
    """Return what the entries of an answer hold under `name`, in the order of what was asked.

    Args:
        entries: the entries, each with its place there as ``index``.
        name: what is wanted of each.
        needs_index: whether one without an index is refused; else, where none of them has one, they are in order.

    Raises:
        LookupError: when an index is missing, is there twice, or is that of nothing.
        TypeError, AttributeError: when something is no list of objects.
    """
    indices: list[Any] = [entry.get("index") for entry in entries]
    if not needs_index and all(index is None for index in indices):
        return [entry[name] for entry in entries]
    if any(type(index) is not int for index in indices) or sorted(indices) != list(range(len(entries))):
        raise LookupError(f"index: {indices[:10]}")
    return [entry[name] for entry in sorted(entries, key=lambda entry: int(entry["index"]))]


def whole(value: Any) -> int | None:
    """Return a number as a whole one, rounded up; None when it is none."""
    if value.__class__ is int:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return math.ceil(value)


def other_model(reported: Any, asked: str) -> str | None:
    """Return the model that an endpoint says has answered, when that is not the one that was asked."""
    return reported if isinstance(reported, str) and reported not in ("", asked) else None
