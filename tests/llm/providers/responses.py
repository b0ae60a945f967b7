"""OpenAI's Responses API."""

from __future__ import annotations

from typing import Any

from . import streams
from .api import IMAGE, JSON, KEY, SENT_SCHEMA, WEB_IMAGE, Api, Sent
from .chat import OPENAI, error

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look_up", "arguments": '{"q": "x"}'}
THOUGHTS = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}


def message(*parts: Any) -> dict[str, Any]:
    """Return a message of the output."""
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


def text(content: str) -> dict[str, Any]:
    """Return a text of a message."""
    return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}


def response(*output: Any, status: str = "completed", reason: str | None = None) -> Sent:
    """Return a response."""
    return Sent(
        {
            "id": "resp_1",
            "object": "response",
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": "m-1-2026",
            "output": [THOUGHTS, *output],
            "usage": {
                "input_tokens": 27,
                "input_tokens_details": {"cached_tokens": 20},
                "output_tokens": 13,
                "output_tokens_details": {"reasoning_tokens": 8},
                "total_tokens": 40,
            },
        }
    )


RESPONSES = Api(
    adapter="openai-responses",
    title="OpenAI, Responses",
    base="/v1",
    url_env="OPENAI_BASE_URL",
    key_env="OPENAI_API_KEY",
    path="/v1/responses",
    key_header=("authorization", f"Bearer {KEY}"),
    url="https://api.openai.com/v1/responses",
    priced="gpt-4o-mini",
    request={
        "model": "m-1",
        "store": False,
        "temperature": 0.5,
        "max_output_tokens": 50,
        "input": [
            {"role": "system", "content": [{"type": "input_text", "text": "Be kind."}]},
            {"role": "user", "content": [{"type": "input_text", "text": "What is it?"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "A cat."}]},
            {"role": "user", "content": [{"type": "input_text", "text": "And now?"}]},
        ],
    },
    tool_turns=[
        {"role": "user", "content": [{"type": "input_text", "text": "Where?"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": '{"q": "x"}'},
        {"type": "function_call", "call_id": "c2", "name": "look_up", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Here."},
        {"type": "function_call_output", "call_id": "c2", "output": "There."},
        {"role": "user", "content": [{"type": "input_text", "text": "Sure?"}]},
    ],
    image={"type": "input_image", "image_url": IMAGE},
    web_image={"type": "input_image", "image_url": WEB_IMAGE},
    schema={"text": {"format": {"type": "json_schema", "name": "answer", "schema": SENT_SCHEMA, "strict": True}}},
    tool={
        "tools": [
            {
                "type": "function",
                "name": "answer",
                "description": "Takes the answer.",
                "parameters": SENT_SCHEMA,
                "strict": True,
            }
        ],
        "tool_choice": {"type": "function", "name": "answer"},
    },
    answer=response(message(text("yes"))),
    structured=response(message(text(JSON))),
    call=response(CALL),
    calls=[CALL],
    thoughtful_call=response({**THOUGHTS, "id": "rs_2", "encrypted_content": "x"}, CALL),
    round=[
        {**THOUGHTS, "id": "rs_2", "encrypted_content": "x"},
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "found x"},
    ],
    tool_answer=response({**CALL, "name": "answer", "arguments": JSON}),
    usage=OPENAI.usage,
    stream=lambda body: streams.sse(streams.response(body)),
    stream_path="/v1/responses",
    stream_fields={"stream": True},
    failures={
        "cut_off": response(message(text("ye")), status="incomplete", reason="max_output_tokens"),
        "refusal": response(message({"type": "refusal", "refusal": "I cannot help with that."})),
        "filtered_answer": response(status="incomplete", reason="content_filter"),
        "filtered_prompt": OPENAI.failures["filtered_prompt"],
        "empty": response(message(text(""))),
        "rate_limit": OPENAI.failures["rate_limit"],
        "overload": Sent(
            {
                "id": "resp_1",
                "status": "failed",
                "error": {"code": "server_error", "message": "no"},
                "output": [],
            }
        ),
        "bad_request": OPENAI.failures["bad_request"],
        "too_long": OPENAI.failures["too_long"],
        "wrong_key": OPENAI.failures["wrong_key"],
        "unknown_model": OPENAI.failures["unknown_model"],
        "schema_refused": error(
            400, "Invalid parameter: 'text.format' of type 'json_schema' is not supported.", param="text.format"
        ),
        "no_answer": Sent({"id": "resp_1", "object": "response"}),
    },
    lacks={"several": "each is a call", "seed": "it takes none: `ConfigError`"},
)
