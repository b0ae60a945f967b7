"""Amazon Bedrock: ``POST {base_url}/model/MODEL/converse``, with a Bedrock API key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.own_turns import as_extra
from llm_datagen.llm.http.prompt_cache import marked
from llm_datagen.llm.http.providers.translation import (
    OwnPart,
    ToolCall,
    ToolResult,
    forced_function,
    function_of,
    image_in,
    sent_image,
    system_parts,
    take_limit,
    text_in,
    turns,
)
from llm_datagen.llm.http.reading import counts_of, inner, named_counts, whole
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.http.streaming.converse import ConverseStreaming
from llm_datagen.llm.types import ChatRequest

_API = "Bedrock"
_FIELDS = (
    *("guardrailConfig", "additionalModelRequestFields", "additionalModelResponseFieldPaths", "performanceConfig"),
    *("promptVariables", "requestMetadata", "serviceTier", "toolConfig", "outputConfig", "inferenceConfig"),
)
"""Fields of a request; of the other params, `_INFERENCE` are those of its ``inferenceConfig``."""
_MARK = {"cachePoint": {"type": "default"}}
_INFERENCE = {"temperature": "temperature", "top_p": "topP", "topP": "topP", "maxTokens": "maxTokens"}


class BedrockAdapter(ChatAdapter):
    """Speaks the Converse API of Bedrock.

    The key is a Bedrock API key, which is sent as a bearer token; requests are not signed. The region is that of
    ``AWS_REGION``, else ``AWS_DEFAULT_REGION``. The params are those of the API; ``max_tokens``, ``temperature``,
    ``top_p``, ``stop`` and tools as chat completions have them are understood, too. What else there is goes to the
    model itself, as ``additionalModelRequestFields``.
    """

    base_url_env = "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
    api_key_env = "AWS_BEARER_TOKEN_BEDROCK"
    structured_modes = ("json_schema", "tool", "prompt")
    finished_words = ("end_turn", "stop_sequence")
    prompt_cache = "marks"
    url_ends = ("/model",)

    def default_url(self) -> str:
        """Return the endpoint of the region that the environment names."""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return super().default_url() or (f"https://bedrock-runtime.{region}.amazonaws.com" if region else "")

    def path(self, model: str) -> str:
        """Return the path of the model."""
        return f"/model/{quote(model, safe='')}/converse"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request: system messages become a field of it.

        Raises:
            PromptError: when a call of a tool in the row, or its result, cannot be understood, an image is a URL, or
                more is said of it than the API can be told.
        """
        request = marked(request, _MARK, is_part=True)
        params = dict(request.params)
        result: dict[str, Any] = {
            "messages": [
                {"role": role, "content": [_part(part, request) for part in parts]}
                for role, parts in turns(request, _API)
            ]
        }
        system = system_parts(request)
        if system:
            result["system"] = [_part(part, request) for part in system]
        if "response_format" in params:
            wanted = params.pop("response_format")["json_schema"]
            schema = {"name": wanted["name"], "schema": json.dumps(wanted["schema"], ensure_ascii=False)}
            result["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
        if "tools" in params:
            result["toolConfig"] = _tool_config(params)
        config = _inference_config(params)
        if config:
            result["inferenceConfig"] = config
        result |= {name: params.pop(name) for name in _FIELDS if name in params}
        if params:
            result["additionalModelRequestFields"] = {**params, **result.get("additionalModelRequestFields", {})}
        return result

    def read(self, data: Any) -> Reply:
        """Return the texts of the answer as one."""
        parts = data["output"]["message"]["content"]
        texts = [part["text"] for part in parts if "text" in part]
        extras: dict[str, Any] = {
            "reasoning": "".join(_thoughts(parts)),
            "tool_calls": [part["toolUse"] for part in parts if "toolUse" in part],
        }
        if extras["tool_calls"] and any("reasoningContent" in part for part in parts):  # thoughts are signed
            extras |= as_extra(_API, parts)
        return Reply(
            text="".join(texts) if texts else None,
            finish_reason=data.get("stopReason"),
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
        )

    def amounts_to(self, status: int, data: Any) -> int:
        """Return the status that a failure amounts to: a wrong key is sent as 403."""
        message = str(data.get("Message") or data.get("message") or "") if isinstance(data, Mapping) else ""
        return 401 if status == 403 and "api key" in message.lower() else super().amounts_to(status, data)

    def streaming(self) -> Streaming:
        """Return that of ConverseStream."""
        return ConverseStreaming()

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts under the names of chat completions: others, and what the cache holds."""
        found = counts_of(inner(data, "usage"))
        if "inputTokens" not in found or "outputTokens" not in found:
            return {}
        cached, written = found.get("cacheReadInputTokens", 0), found.get("cacheWriteInputTokens", 0)
        return named_counts(
            prompt=found["inputTokens"] + cached + written,
            completion=found["outputTokens"],
            cached=cached,
            written=written,
            written_5m=sum(_written_5m(inner(data, "usage", "cacheDetails"))),
        )


def _written_5m(details: Any) -> Iterator[int]:
    """Yield the tokens that went into the cache for five minutes."""
    for each in details if isinstance(details, list) else ():
        if inner(each, "ttl") == "5m":
            yield whole(inner(each, "inputTokens")) or 0


def _inference_config(params: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = dict(params.pop("inferenceConfig", {}))
    limit = take_limit(params)
    if limit is not None:
        config["maxTokens"] = limit
    if "stop" in params:
        stop = params.pop("stop")
        config["stopSequences"] = [stop] if isinstance(stop, str) else stop
    return config | {own: params.pop(name) for name, own in _INFERENCE.items() if name in params}


def _tool_config(params: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {"tools": [_tool(tool) for tool in params.pop("tools")]}
    forced = forced_function(params)
    if forced is not None:
        del params["tool_choice"]
        config["toolChoice"] = {"tool": {"name": forced}}
    return config


def _tool(tool: Any) -> Any:
    function = function_of(tool)
    if function is None:
        return tool
    return {"toolSpec": {"inputSchema": {"json": function.pop("parameters", {"type": "object"})}, **function}}


def _part(part: Any, request: ChatRequest) -> Any:
    if isinstance(part, OwnPart):
        return part.part
    if isinstance(part, ToolCall):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}
    if isinstance(part, ToolResult):
        return {"toolResult": {"toolUseId": part.id, "content": [{"text": part.text}]}}
    text, found = text_in(part), image_in(part, request, _API)
    if text is not None:
        return {"text": text}
    if found is None:
        return part
    image = sent_image(found, request, _API)
    return {"image": {"format": image.media_type.removeprefix("image/"), "source": {"bytes": image.data}}}


def _thoughts(parts: list[Any]) -> Iterator[str]:
    for part in parts:
        text = inner(part, "reasoningContent", "reasoningText", "text")
        if isinstance(text, str):
            yield text
