"""The API of Ollama itself."""

from __future__ import annotations

from typing import Any

from . import streams
from .api import IMAGE_DATA, JSON, KEY, SENT_SCHEMA, Api, Sent

CALL = {"function": {"name": "look_up", "arguments": {"q": "x"}}}


def answer(content: str, reason: str = "stop", **message: Any) -> Sent:
    """Return a response."""
    return Sent(
        {
            "model": "m-1",
            "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": content, "thinking": "hm", **message},
            "done": True,
            "done_reason": reason,
            "total_duration": 5,
            "prompt_eval_count": 27,
            "eval_count": 13,
        }
    )


OLLAMA = Api(
    adapter="ollama",
    title="Ollama",
    url_env="OLLAMA_HOST",
    key_env="OLLAMA_API_KEY",
    path="/api/chat",
    key_header=("authorization", f"Bearer {KEY}"),
    request={
        "model": "m-1",
        "stream": False,
        "truncate": False,
        "shift": False,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "What is it?"},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "And now?"},
        ],
        "options": {"temperature": 0.5, "num_predict": 50},
    },
    tool_turns=[
        {"role": "user", "content": "Where?"},
        {
            "role": "assistant",
            "content": "Hm.",
            "tool_calls": [
                {"function": {"name": "look_up", "arguments": {"q": "x"}}},
                {"function": {"name": "look_up", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_name": "look_up", "content": "Here."},
        {"role": "tool", "tool_name": "look_up", "content": "There."},
        {"role": "user", "content": "Sure?"},
    ],
    image=IMAGE_DATA,
    schema={"format": SENT_SCHEMA},
    answer=answer("yes"),
    structured=answer(JSON),
    call=answer("", tool_calls=[CALL]),
    calls=[CALL],
    thoughtful_call=answer("", tool_calls=[CALL]),
    round=[
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL]},
        {"role": "tool", "tool_name": "look_up", "content": "found x"},
    ],
    usage={"prompt_tokens": 27, "completion_tokens": 13, "total_tokens": 40},
    stream=lambda body: streams.lines(streams.ollama(body)),
    stream_type="application/x-ndjson",
    stream_path="/api/chat",
    stream_fields={"stream": True},
    seed=("options", "seed"),
    failures={
        "cut_off": answer("ye", "length"),
        "empty": answer(""),
        "rate_limit": Sent({"error": "too many concurrent requests"}, 429, {"Retry-After": "7"}),
        "overload": Sent({"error": "server busy, please try again. maximum pending requests exceeded"}, 503),
        "bad_request": Sent({"error": "invalid options: num_ctx"}, 400),
        "too_long": Sent({"error": "the input length exceeds the context length"}, 400),
        "wrong_key": Sent({"error": f"unauthorized {KEY}"}, 401),
        "unknown_model": Sent({"error": "model 'm-1' not found"}, 404),
        "schema_refused": Sent(
            {"error": "json: cannot unmarshal object into Go struct field ChatRequest.format of type string"}, 400
        ),
        "no_answer": Sent({"model": "m-1", "done": False}),
    },
    lacks={
        "several": "each is a call",
        "web_image": "it takes none: `PromptError`",
        "schema_by_tool": "no tool can be made to be called",
        "cached": "it does not say",
        "reasoning_tokens": "it counts them with the others",
        "refusal": "a refusal is a text",
        "filtered_answer": "it has no filter",
        "filtered_prompt": "it has no filter",
    },
)
