"""Converse of Amazon Bedrock."""

from __future__ import annotations

import json
from typing import Any

from . import streams
from .api import IMAGE_DATA, JSON, KEY, SENT_SCHEMA, Api, Sent

CALL = {"toolUseId": "tooluse_1", "name": "look_up", "input": {"q": "x"}}

THOUGHTS = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}


def answer(*parts: Any, reason: str = "end_turn") -> Sent:
    """Return a response."""
    return Sent(
        {
            "output": {"message": {"role": "assistant", "content": [THOUGHTS, *parts]}},
            "stopReason": reason,
            "usage": {"inputTokens": 7, "outputTokens": 13, "totalTokens": 40, "cacheReadInputTokens": 20},
            "metrics": {"latencyMs": 5},
        }
    )


def error(status: int, kind: str, message: str, **headers: str) -> Sent:
    """Return a failure."""
    return Sent({"message": message}, status, {"x-amzn-ErrorType": kind, **headers})


BEDROCK = Api(
    adapter="bedrock",
    title="Bedrock",
    url_env="AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    url_note=", else that of the region in `AWS_REGION` or `AWS_DEFAULT_REGION`",
    key_env="AWS_BEARER_TOKEN_BEDROCK",
    model="vendor.m-1:0",
    path="/model/vendor.m-1%3A0/converse",
    key_header=("authorization", f"Bearer {KEY}"),
    url="https://bedrock-runtime.eu-west-1.amazonaws.com/model/x/converse",
    priced="us.anthropic.claude-sonnet-4-20250514-v1:0",
    request={
        "system": [{"text": "Be kind."}],
        "messages": [
            {"role": "user", "content": [{"text": "What is it?"}]},
            {"role": "assistant", "content": [{"text": "A cat."}]},
            {"role": "user", "content": [{"text": "And now?"}]},
        ],
        "inferenceConfig": {"temperature": 0.5, "maxTokens": 50},
    },
    tool_turns=[
        {"role": "user", "content": [{"text": "Where?"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "Hm."},
                {"toolUse": {"toolUseId": "c1", "name": "look_up", "input": {"q": "x"}}},
                {"toolUse": {"toolUseId": "c2", "name": "look_up", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "c1", "content": [{"text": "Here."}]}},
                {"toolResult": {"toolUseId": "c2", "content": [{"text": "There."}]}},
                {"text": "Sure?"},
            ],
        },
    ],
    image={"image": {"format": "jpeg", "source": {"bytes": IMAGE_DATA}}},
    schema={
        "outputConfig": {
            "textFormat": {
                "type": "json_schema",
                "structure": {"jsonSchema": {"name": "answer", "schema": json.dumps(SENT_SCHEMA)}},
            }
        }
    },
    tool={
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "answer",
                        "description": "Takes the answer.",
                        "inputSchema": {"json": SENT_SCHEMA},
                        "strict": True,
                    }
                }
            ],
            "toolChoice": {"tool": {"name": "answer"}},
        }
    },
    answer=answer({"text": "yes"}),
    structured=answer({"text": JSON}),
    call=answer({"toolUse": CALL}, reason="tool_use"),
    calls=[CALL],
    thoughtful_call=answer({"toolUse": CALL}, reason="tool_use"),
    round=[
        {"role": "assistant", "content": [THOUGHTS, {"toolUse": CALL}]},
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "found x"}]}}],
        },
    ],
    tool_answer=answer({"toolUse": {**CALL, "name": "answer", "input": json.loads(JSON)}}, reason="tool_use"),
    usage={"prompt_tokens": 27, "completion_tokens": 13, "total_tokens": 40, "cached_tokens": 20},
    stream=lambda body: streams.aws(streams.converse(body)),
    stream_type="application/vnd.amazon.eventstream",
    stream_path="/model/vendor.m-1%3A0/converse-stream",
    stream_fields={},
    failures={
        "cut_off": answer({"text": "ye"}, reason="max_tokens"),
        "filtered_answer": answer(reason="content_filtered"),
        "filtered_prompt": answer({"text": "Sorry."}, reason="guardrail_intervened"),
        "empty": answer(),
        "rate_limit": error(429, "ThrottlingException", "Too many tokens, please wait.", **{"Retry-After": "7"}),
        "overload": error(503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        "bad_request": error(400, "ValidationException", "temperature: must be at most 1"),
        "too_long": error(400, "ValidationException", "Input is too long for requested model."),
        "wrong_key": Sent({"Message": f"Authentication failed: Please make sure your API Key is valid. {KEY}"}, 403),
        "unknown_model": error(404, "ResourceNotFoundException", "Could not resolve the foundation model."),
        "schema_refused": error(400, "ValidationException", "This model does not support outputConfig.textFormat."),
        "no_answer": Sent({"stopReason": "end_turn"}),
    },
    lacks={
        "several": "each is a call",
        "seed": "it takes none: `ConfigError`",
        "web_image": "it takes none: `PromptError`",
        "reasoning_tokens": "it counts them with the others",
        "refusal": "a refusal is a text",
    },
)
