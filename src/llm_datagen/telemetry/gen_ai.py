"""The attributes of a call, by OpenTelemetry's semantic conventions for generative AI.

They are still in development there. So their names stand here, and not in a package whose releases move them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.runs.model_calls import ModelAnswer, ModelCall

TOKEN_USAGE = "gen_ai.client.token.usage"
DURATION = "gen_ai.client.operation.duration"
TOKEN_TYPE = "gen_ai.token.type"
ERROR_TYPE = "error.type"

TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""The bounds of buckets that the conventions ask for, in tokens."""
SECOND_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The same, in seconds."""

_PROVIDERS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.x.ai": "x_ai",
    "api.cohere.com": "cohere",
    "api.perplexity.ai": "perplexity",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
}
"""The names that the conventions have for providers, by the ends of hosts."""

_PARAMS: dict[str, tuple[str, type]] = {
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "seed": ("gen_ai.request.seed", int),
    "n": ("gen_ai.request.choice.count", int),
    "dimensions": ("gen_ai.embeddings.dimension.count", int),
}

_TOKENS = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}

_FINISH = {
    "finished": "stop",
    "tool": "tool_call",
    "cut_off": "length",
    "withheld": "content_filter",
    "refused": "content_filter",
    "failed": "error",
}
"""The words that the conventions have for how an answer ended; for others, that of the endpoint is told."""


def provider_of(host: str) -> str:
    """Return the name of a provider; the host itself, of one that the conventions have no name for."""
    for end, name in _PROVIDERS.items():
        if host == end or host.endswith(f".{end}"):
            return name
    return host


def of_metrics(call: ModelCall) -> dict[str, Any]:
    """Return the attributes of a call that metrics have, too."""
    found: dict[str, Any] = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": provider_of(call.host),
        "gen_ai.request.model": call.model,
        "server.address": call.host,
    }
    return found if call.port is None else {**found, "server.port": call.port}


def of_request(call: ModelCall) -> dict[str, Any]:
    """Return what the span of a call says of the request, besides."""
    found: dict[str, Any] = {}
    for param, (name, kind) in _PARAMS.items():
        value = call.params.get(param)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = kind(value)
    if "response_format" in call.params:
        found["gen_ai.output.type"] = "json"
    return found


def of_answer(answer: ModelAnswer) -> dict[str, Any]:
    """Return what the span of a call says of the answer."""
    found: dict[str, Any] = {"gen_ai.response.model": answer.model, **of_usage(answer.usage)}
    if answer.finish_reason is not None:
        found["gen_ai.response.finish_reasons"] = (answer.finish_reason,)
    return found


def of_usage(usage: Mapping[str, int]) -> dict[str, int]:
    """Return what the span of a call says of its tokens."""
    return {name: usage[key] for key, name in _TOKENS.items() if key in usage}


def input_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the messages of a request as the JSON of the conventions; of images and the like, that there are some."""
    return _json(
        [
            {
                "role": message.get("role"),
                "parts": [*_parts(message.get("content")), *map(_tool_call, message.get("tool_calls") or ())],
            }
            for message in messages
        ]
    )


def output_messages(answer: ModelAnswer) -> str:
    """Return the text of an answer as the JSON of the conventions."""
    parts = [] if answer.text is None else _parts(answer.text)
    reason = _FINISH.get(answer.ending, answer.finish_reason or "")
    return _json([{"role": "assistant", "parts": parts, "finish_reason": reason}])


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    return [_part(part) for part in content or () if isinstance(part, Mapping)]


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text":
        return {"type": "text", "content": part.get("text", "")}
    return {"type": str(part.get("type"))}


def _tool_call(call: Any) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return {"type": "tool_call"}
    return {"type": "tool_call", "id": call.get("id"), **{name: function.get(name) for name in ("name", "arguments")}}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
