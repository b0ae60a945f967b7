"""Where an answer comes from: the column ``_meta`` of a row, by the nodes that it went through."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.prompts.template import row_label
from llm_datagen.llm.types import ChatAnswer, ChatRequest, Parsed
from llm_datagen.runs.usage import in_all
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

META_FIELD = "_meta"
_HASH_DIGITS = 16


def provenance(
    request: ChatRequest, answers: Sequence[ChatAnswer], parsed: Parsed, *, tool_calls: int | None = None
) -> dict[str, Any]:
    """Return what is known of the calls that brought an answer.

    Args:
        request: the first request.
        answers: what came back: the last one is the answer, the others had to be repaired.
        parsed: what the last one became.
        tool_calls: calls of tools that were executed; None where none can be.

    Returns:
        ``model`` (that was asked), ``response_model`` (the endpoint's word for what answered, where it is another; else
        None) and ``endpoint`` of the last; ``prompt_tokens``, ``completion_tokens``, ``seconds``, ``attempts`` and
        ``cost`` (US dollars; None when one is unknown) of all together; ``calls``; ``is_cached``: whether all came from
        the cache; ``repaired``: ``"local"`` when the last was read out of what stood around it, else None;
        ``rows``: how many rows the answer became; ``prompt_hash``; with tools, ``tool_calls``.
    """
    last = answers[-1]
    return {
        "model": last.model,
        "response_model": last.response_model,
        "endpoint": last.endpoint,
        "prompt_tokens": sum(answer.usage.get("prompt_tokens", 0) for answer in answers),
        "completion_tokens": sum(answer.usage.get("completion_tokens", 0) for answer in answers),
        "cost": in_all([answer.cost for answer in answers]),
        "seconds": round(sum(answer.seconds for answer in answers), 6),
        "calls": len(answers),
        "attempts": sum(answer.attempts for answer in answers),
        "is_cached": all(answer.is_cached for answer in answers),
        "repaired": "local" if parsed.is_repaired else None,
        "rows": len(parsed.rows),
        "prompt_hash": prompt_hash(request),
        **({} if tool_calls is None else {"tool_calls": tool_calls}),
    }


def all_together(calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what several calls of one row are together: sums, and the names of all models and endpoints.

    Args:
        calls: what `provenance` says of each.
    """
    first = calls[0]

    def names(field: str) -> str | None:
        found = dict.fromkeys(call[field] for call in calls if call[field])
        return " | ".join(found) or None

    return {
        **first,
        **{field: names(field) for field in ("model", "response_model", "endpoint")},
        **{
            field: sum(call[field] for call in calls)
            for field in ("prompt_tokens", "completion_tokens", "calls", "attempts")
        },
        "cost": in_all([call["cost"] for call in calls]),
        "seconds": round(sum(call["seconds"] for call in calls), 6),
        "is_cached": all(call["is_cached"] for call in calls),
        "repaired": next((call["repaired"] for call in calls if call["repaired"]), None),
        "rows": 1,
    }


def prompt_hash(request: ChatRequest) -> str:
    """Return what stands for the messages and params of a request: the beginning of a SHA-256, in hex."""
    asked = dumps([request.messages, request.params], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(asked).hexdigest()[:_HASH_DIGITS]


def earlier_meta(item: Any) -> dict[str, Any]:
    """Return what the nodes before wrote in ``_meta`` of `item`.

    Raises:
        PromptError: when the row has something else in that column.
    """
    meta = item.get(META_FIELD) if isinstance(item, Mapping) else None
    if isinstance(meta, str):  # a row of a CSV file
        with contextlib.suppress(ValueError):
            meta = loads_exactly(meta.encode()) if meta else None
    if meta is not None and not isinstance(meta, Mapping):
        raise PromptError(f"{row_label(item)} has a {META_FIELD} of its own, where meta=True would write: rename it")
    return dict(meta or {})
