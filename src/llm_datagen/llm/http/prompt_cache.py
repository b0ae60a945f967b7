"""Where the beginning ends that all rows have in common, as APIs are told that cache what they are told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llm_datagen.llm.types import ChatRequest

KEY = "prompt_cache_key"
"""The field by which chat completions and Responses find the server that has a beginning in its cache."""


def marked(request: ChatRequest, mark: Mapping[str, Any], *, is_part: bool) -> ChatRequest:
    """Return a request whose common beginning ends with a mark; the same when it has none.

    Args:
        request: the request.
        mark: what is said.
        is_part: whether the mark is a part of its own; else it is put into the last part of the beginning.
    """
    prefix = request.prefix
    if prefix is None:
        return request
    messages = list(request.messages)
    rest: Mapping[str, Any] = messages[prefix.messages] if prefix.messages < len(messages) else {}
    parts = _cut(rest.get("content"), prefix.chars)
    if parts is not None:
        first, others = parts
        messages[prefix.messages] = {**rest, "content": [*_with(first, mark, is_part=is_part), *others]}
    elif prefix.messages:
        last = messages[prefix.messages - 1]
        content = last["content"]
        *before, end = [{"type": "text", "text": content}] if isinstance(content, str) else content
        messages[prefix.messages - 1] = {**last, "content": [*before, *_with(end, mark, is_part=is_part)]}
    return replace(request, messages=messages)


def _with(part: Mapping[str, Any], mark: Mapping[str, Any], *, is_part: bool) -> list[Mapping[str, Any]]:
    return [part, mark] if is_part else [{**part, **mark}]


def _cut(content: Any, chars: int) -> tuple[dict[str, Any], list[Any]] | None:
    """Return the text that a content begins with, and what follows; None where either would be blank."""
    text, others = (content, []) if isinstance(content, str) else ("", [])
    if isinstance(content, list) and content and content[0].get("type") == "text":
        text, others = content[0]["text"], content[1:]
    if not text[:chars].strip() or not text[chars:].strip():
        return None
    return {"type": "text", "text": text[:chars]}, [{"type": "text", "text": text[chars:]}, *others]
