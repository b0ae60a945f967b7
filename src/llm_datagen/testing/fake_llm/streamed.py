"""Answers of a fake endpoint that are streamed: server-sent events, which may break off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from llm_datagen.testing.fake_llm.http import Ending, error_body

PIECE_CHARS = 8
"""So many characters of an answer come with each event."""


def events_of(completion: Mapping[str, Any], *, with_usage: bool) -> list[bytes]:
    """Return the events of a completion: pieces of its choices in turn, reasons to stop, counts, ``[DONE]``."""
    head = {"id": completion["id"], "object": "chat.completion.chunk", "model": completion["model"]}
    chunks = [
        {"choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
        for choice in completion["choices"]
        for delta in _deltas(choice["message"])
    ]
    for choice in completion["choices"]:
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        chunks.append({"choices": [last]})
    if with_usage:
        chunks.append({"choices": [], "usage": completion["usage"]})
    return [*(_event({**head, **chunk}) for chunk in chunks), b"data: [DONE]\n\n"]


def broken(events: Sequence[bytes], fault: str | None) -> tuple[Sequence[bytes], Ending]:
    """Return the events that are sent when a call goes wrong so, and what the connection does then."""
    half = events[: len(events) // 2]
    match fault:
        case "truncated":
            return half, "closed"
        case "stalled":
            return half, "silent"
        case "malformed":
            return [*half, b'data: {"choices": [{"delta": {"content": "amb\n\n', *events[len(half) :]], "whole"
        case "late_error":
            return [*half, b"data: " + error_body("something broke", type="server_error") + b"\n\n"], "whole"
    return events, "whole"


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": None if message["content"] is None else ""}
    for piece in _pieces(message["content"] or ""):
        yield {"content": piece}
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        yield {"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}
        for piece in _pieces(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _pieces(text: str) -> list[str]:
    return [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]


def _event(data: Any) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"
