"""Anthropic's Messages API."""

from __future__ import annotations

import json
from typing import Any

from . import streams
from .api import IMAGE_DATA, JSON, KEY, SENT_SCHEMA, WEB_IMAGE, Api, Sent

CALL = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"q": "x"}}

THOUGHTS = {"type": "thinking", "thinking": "hm", "signature": "s"}


def answer(*parts: Any, reason: str = "end_turn") -> Sent:
    """Return a message."""
    return Sent(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m-1-2026",
            "content": [THOUGHTS, *parts],
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "cache_read_input_tokens": 20, "output_tokens": 13},
        }
    )


def error(status: int, kind: str, message: str, **headers: str) -> Sent:
    """Return a failure."""
    return Sent({"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"}, status, headers)


def text(content: str) -> dict[str, Any]:
    """Return a part that is a text."""
    return {"type": "text", "text": content}


ANTHROPIC = Api(
    adapter="anthropic",
    title="Anthropic",
    url_env="ANTHROPIC_BASE_URL",
    key_env="ANTHROPIC_API_KEY",
    path="/v1/messages",
    key_header=("x-api-key", KEY),
    url="https://api.anthropic.com/v1/messages",
    priced="claude-sonnet-4-5",
    request={
        "model": "m-1",
        "temperature": 0.5,
        "max_tokens": 50,
        "system": [text("Be kind.")],
        "messages": [
            {"role": "user", "content": [text("What is it?")]},
            {"role": "assistant", "content": [text("A cat.")]},
            {"role": "user", "content": [text("And now?")]},
        ],
    },
    tool_turns=[
        {"role": "user", "content": [text("Where?")]},
        {
            "role": "assistant",
            "content": [
                text("Hm."),
                {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"q": "x"}},
                {"type": "tool_use", "id": "c2", "name": "look_up", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "Here."},
                {"type": "tool_result", "tool_use_id": "c2", "content": "There."},
                text("Sure?"),
            ],
        },
    ],
    image={"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": IMAGE_DATA}},
    web_image={"type": "image", "source": {"type": "url", "url": WEB_IMAGE}},
    schema={"output_config": {"format": {"type": "json_schema", "schema": SENT_SCHEMA}}},
    tool={
        "tools": [{"name": "answer", "description": "Takes the answer.", "input_schema": SENT_SCHEMA, "strict": True}],
        "tool_choice": {"type": "tool", "name": "answer"},
    },
    answer=answer(text("yes")),
    structured=answer(text(JSON)),
    call=answer(CALL, reason="tool_use"),
    calls=[CALL],
    thoughtful_call=answer(CALL, reason="tool_use"),
    round=[
        {"role": "assistant", "content": [THOUGHTS, CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "found x"}]},
    ],
    tool_answer=answer({**CALL, "name": "answer", "input": json.loads(JSON)}, reason="tool_use"),
    usage={"prompt_tokens": 27, "completion_tokens": 13, "total_tokens": 40, "cached_tokens": 20},
    stream=lambda body: streams.sse(streams.messages(body)),
    stream_path="/v1/messages",
    stream_fields={"stream": True},
    failures={
        "cut_off": answer(text("ye"), reason="max_tokens"),
        "refusal": answer(reason="refusal"),
        "empty": answer(),
        "rate_limit": error(429, "rate_limit_error", "Too many requests.", **{"retry-after": "7"}),
        "overload": error(529, "overloaded_error", "Overloaded"),
        "bad_request": error(400, "invalid_request_error", "temperature: must be at most 1"),
        "too_long": error(400, "invalid_request_error", "prompt is too long: 250000 tokens > 200000 maximum"),
        "wrong_key": error(401, "authentication_error", f"invalid x-api-key {KEY}"),
        "unknown_model": error(404, "not_found_error", "model: m-1"),
        "schema_refused": error(400, "invalid_request_error", "output_config.format: Extra inputs are not permitted"),
        "no_answer": Sent({"type": "message", "stop_reason": "end_turn"}),
    },
    lacks={
        "several": "each is a call",
        "seed": "it takes none: `ConfigError`",
        "reasoning_tokens": "it counts them with the others",
        "filtered_answer": "it says refusal",
        "filtered_prompt": "it says refusal",
    },
)
