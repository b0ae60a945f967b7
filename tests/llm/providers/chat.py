"""Chat completions, of OpenAI and of those that speak them with changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import streams
from .api import IMAGE, JSON, KEY, SENT_SCHEMA, TOOL_TURNS, WEB_IMAGE, Api, Sent

USAGE = {
    "prompt_tokens": 27,
    "completion_tokens": 13,
    "total_tokens": 40,
    "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
SHORT_COUNTS = {"prompt_tokens": 27, "completion_tokens": 13, "total_tokens": 40, "cached_tokens": 20}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}

RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "found x"}


def several(*contents: str) -> Sent:
    """Return a completion with several choices."""
    made = [{**chat(content).body["choices"][0], "index": index} for index, content in enumerate(contents)]
    return Sent({**chat("").body, "choices": made})


SHORT_USAGE = {**USAGE, "completion_tokens_details": None}
"""The same of servers that do not count thoughts for themselves."""


def chat(content: Any, reason: str = "stop", usage: Any = USAGE, **message: Any) -> Sent:
    """Return a completion."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": content, **message},
        "finish_reason": reason,
        "logprobs": None,
    }
    return Sent({"id": "c-1", "object": "chat.completion", "model": "m-1-2026", "choices": [choice], "usage": usage})


def error(status: int, message: str, **fields: Any) -> Sent:
    """Return a failure."""
    return Sent({"error": {"message": message, "type": "invalid_request_error", "param": None, **fields}}, status)


def limited(status: int = 429, header: str = "retry-after", value: str = "7") -> Sent:
    """Return a rate limit."""
    body = {"error": {"message": "Rate limit reached for m-1 on tokens per min.", "code": "rate_limit_exceeded"}}
    return Sent(body, status, {header: value})


OPENAI = Api(
    adapter="openai",
    title="OpenAI, and other chat completions",
    base="/v1",
    url_env="OPENAI_BASE_URL",
    key_env="OPENAI_API_KEY",
    path="/v1/chat/completions",
    key_header=("authorization", f"Bearer {KEY}"),
    url="https://api.openai.com/v1/chat/completions",
    priced="gpt-4o-mini",
    request={
        "model": "m-1",
        "temperature": 0.5,
        "max_tokens": 50,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}]},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "And now?"},
        ],
    },
    tool_turns=TOOL_TURNS,
    image={"type": "image_url", "image_url": {"url": IMAGE}},
    web_image={"type": "image_url", "image_url": {"url": WEB_IMAGE}},
    schema={
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": SENT_SCHEMA, "strict": True},
        }
    },
    tool={
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "answer",
                    "description": "Takes the answer.",
                    "parameters": SENT_SCHEMA,
                    "strict": True,
                },
            }
        ],
        "tool_choice": {"type": "function", "function": {"name": "answer"}},
    },
    answer=chat("yes", reasoning_content="hm"),
    structured=chat(JSON),
    call=chat(None, "tool_calls", tool_calls=[CALL]),
    calls=[CALL],
    thoughtful_call=chat(None, "tool_calls", reasoning_content="hm", tool_calls=[CALL]),
    round=[{"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]}, RESULT],
    tool_answer=chat(
        None,
        "stop",
        tool_calls=[{"id": "call_2", "type": "function", "function": {"name": "answer", "arguments": JSON}}],
    ),
    usage={
        "prompt_tokens": 27,
        "completion_tokens": 13,
        "total_tokens": 40,
        "cached_tokens": 20,
        "reasoning_tokens": 8,
    },
    several=(several("yes", "no"), ("n",)),
    stream=lambda body: streams.sse(streams.chat(body)),
    stream_path="/v1/chat/completions",
    stream_fields={"stream": True, "stream_options": {"include_usage": True}},
    failures={
        "cut_off": chat("ye", "length"),
        "refusal": chat(None, "stop", refusal="I cannot help with that."),
        "filtered_answer": chat("", "content_filter"),
        "empty": chat(""),
        "rate_limit": limited(),
        "overload": Sent({"error": {"message": "That model is overloaded.", "type": "server_error"}}, 503),
        "bad_request": error(400, "Unsupported value: 'temperature'.", param="temperature", code="unsupported_value"),
        "too_long": error(
            400, "This model's maximum context length is 8192 tokens.", param="messages", code="context_length_exceeded"
        ),
        "wrong_key": error(401, f"Incorrect API key provided: {KEY}.", code="invalid_api_key"),
        "unknown_model": error(404, "The model `m-1` does not exist.", code="model_not_found"),
        "no_answer": Sent({"id": "c-1", "choices": []}),
        "schema_refused": error(
            400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported.", param="response_format"
        ),
        "filtered_prompt": error(400, "Your request was flagged.", code="content_policy_violation"),
    },
)

_AZURE_FILTER = error(
    400,
    "The response was filtered.",
    code="content_filter",
    param="prompt",
    innererror={"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
)
AZURE = replace(
    OPENAI,
    adapter="azure",
    title="Azure OpenAI, v1",
    base="",
    url_env="AZURE_OPENAI_ENDPOINT",
    key_env="AZURE_OPENAI_API_KEY",
    path="/openai/v1/chat/completions",
    stream_path="/openai/v1/chat/completions",
    key_header=("api-key", KEY),
    url="https://mine.openai.azure.com/openai/v1/chat/completions",
    failures={
        **OPENAI.failures,
        "filtered_prompt": _AZURE_FILTER,
        "rate_limit": limited(header="retry-after-ms", value="7000"),
        "wrong_key": Sent({"error": {"code": "401", "message": "Access denied due to invalid subscription key."}}, 401),
        "unknown_model": Sent(
            {
                "error": {
                    "code": "DeploymentNotFound",
                    "message": "The API deployment does not exist.",
                }
            },
            404,
        ),
    },
)
AZURE_DEPLOYMENTS = replace(
    AZURE,
    adapter="azure-deployments",
    title="Azure OpenAI, deployments",
    url_note="; the version: `OPENAI_API_VERSION`, else `2024-10-21`",
    model="my model",
    path="/openai/deployments/my%20model/chat/completions?api-version=2024-10-21",
    stream_path="/openai/deployments/my%20model/chat/completions?api-version=2024-10-21",
    request={**OPENAI.request, "model": "my model"},
    url="https://mine.openai.azure.com/openai/deployments/gpt-4o-mini/chat/completions",
)
MISTRAL_THOUGHTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
MISTRAL = replace(
    OPENAI,
    adapter="mistral",
    title="Mistral",
    thoughtful_call=chat(MISTRAL_THOUGHTS, "tool_calls", tool_calls=[CALL]),
    round=[{"role": "assistant", "content": MISTRAL_THOUGHTS, "tool_calls": [CALL]}, RESULT],
    url_env="MISTRAL_BASE_URL",
    key_env="MISTRAL_API_KEY",
    url="https://api.mistral.ai/v1/chat/completions",
    priced="mistral-small-latest",
    answer=chat([*MISTRAL_THOUGHTS, {"type": "text", "text": "yes"}], usage=SHORT_USAGE),
    usage=SHORT_COUNTS,
    stream_fields={"stream": True},
    seed=("random_seed",),
    failures={
        "cut_off": chat("ye", "model_length"),
        "empty": chat(""),
        "rate_limit": Sent(
            {
                "object": "error",
                "message": "Service tier capacity exceeded for this model.",
                "type": "service_tier_capacity_exceeded",
                "code": "3505",
            },
            429,
            {"retry-after": "7"},
        ),
        "overload": Sent({"object": "error", "message": "Service unavailable.", "type": "unreachable_backend"}, 503),
        "bad_request": Sent(
            {
                "object": "error",
                "message": {"detail": [{"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "too high"}]},
                "type": "invalid_request_error",
            },
            422,
        ),
        "too_long": Sent(
            {
                "object": "error",
                "message": "Prompt contains 40001 tokens, too large for model with 32768 maximum context length",
                "type": "invalid_request_error",
                "code": "3051",
            },
            400,
        ),
        "wrong_key": Sent({"message": "Unauthorized", "request_id": f"r-{KEY}"}, 401),
        "unknown_model": Sent({"object": "error", "message": "Invalid model: m-1", "type": "invalid_model"}, 404),
        "schema_refused": OPENAI.failures["schema_refused"],
        "no_answer": Sent({"id": "c-1"}),
    },
    lacks={
        "reasoning_tokens": "it counts them with the others",
        "refusal": "a refusal is a text",
        "filtered_answer": "it says no such thing",
        "filtered_prompt": "it says no such thing",
    },
)
VLLM = replace(
    OPENAI,
    adapter="vllm",
    title="vLLM",
    thoughtful_call=chat(None, "tool_calls", reasoning="hm", tool_calls=[CALL]),
    round=[{"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [CALL]}, RESULT],
    url_env="VLLM_BASE_URL",
    key_env="VLLM_API_KEY",
    url="",
    answer=chat("yes", reasoning="hm", usage=SHORT_USAGE),
    usage=SHORT_COUNTS,
    failures={
        "cut_off": chat("ye", "length"),
        "empty": chat(""),
        "rate_limit": Sent({"detail": "Too many requests"}, 429, {"retry-after": "7"}),
        "overload": Sent({"error": "the server is starting"}, 503),
        "bad_request": Sent(
            {"error": {"message": "temperature must be non-negative", "type": "BadRequestError", "code": 400}}, 400
        ),
        "too_long": Sent(
            {
                "object": "error",
                "message": "This model's maximum context length is 2048 tokens. However, you requested 4000 tokens.",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
            400,
        ),
        "wrong_key": Sent({"error": f"Unauthorized {KEY}"}, 401),
        "unknown_model": Sent(
            {"error": {"message": "The model `m-1` does not exist.", "type": "NotFoundError", "code": 404}}, 404
        ),
        "schema_refused": OPENAI.failures["schema_refused"],
        "no_answer": Sent({"object": "list", "data": []}),
    },
    lacks={
        "reasoning_tokens": "it counts them with the others",
        "refusal": "a refusal is a text",
        "filtered_answer": "it has no filter",
        "filtered_prompt": "it has no filter",
    },
)
