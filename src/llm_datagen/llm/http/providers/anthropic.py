"""Anthropic's Messages API: ``POST {base_url}/v1/messages``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    system_parts,
    turns,
)
from llm_datagen.llm.http.reading import content_of, counts_of, inner, named_counts, whole
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.http.streaming.messages import MessagesStreaming
from llm_datagen.llm.types import ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.anthropic import AnthropicBatchAdapter

MAX_TOKENS = 4096
"""What an answer may have when `params` say nothing: the API requires it."""

_API = "Anthropic"
_BESIDE = ("cache_control",)
"""What the API knows of any part."""
_MARK = {"cache_control": {"type": "ephemeral"}}
_READ = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class AnthropicAdapter(ChatAdapter):
    """Speaks the Messages API.

    The params are those of the API; ``max_completion_tokens`` and ``stop`` are understood, too.
    """

    base_url = "https://api.anthropic.com"
    base_url_env = "ANTHROPIC_BASE_URL"
    api_key_env = "ANTHROPIC_API_KEY"
    structured_modes = ("json_schema", "tool", "prompt")
    prompt_cache = "marks"
    url_ends = ("/v1/messages", "/v1")

    def path(self, model: str) -> str:
        """Return ``/v1/messages``."""
        return "/v1/messages"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key, and the version of the API."""
        return {"anthropic-version": "2023-06-01", **({"x-api-key": api_key} if api_key else {})}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request: system messages become a field of it.

        Raises:
            PromptError: when a call of a tool in the row, or its result, cannot be understood, or more is said of an
                image than the API can be told.
        """
        request = marked(request, _MARK, is_part=False)
        params = dict(request.params)
        result: dict[str, Any] = {
            "model": request.model,
            "max_tokens": params.pop("max_completion_tokens", MAX_TOKENS),
            "messages": [
                {"role": role, "content": [_part(part, request) for part in parts]}
                for role, parts in turns(request, _API)
            ],
        }
        if "stop" in params:
            stop = params.pop("stop")
            result["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        if "response_format" in params:
            schema = params.pop("response_format")["json_schema"]["schema"]
            result["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if "tools" in params:
            result["tools"] = [_tool(tool) for tool in params.pop("tools")]
        forced = forced_function(params)
        if forced is not None:
            del params["tool_choice"]
            result["tool_choice"] = {"type": "tool", "name": forced}
        system = system_parts(request)
        if system:
            result["system"] = [_part(part, request) for part in system]
        return result | params

    def read(self, data: Any) -> Reply:
        """Return the texts of the answer as one."""
        content = content_of(data["content"])
        calls = [part for part in data["content"] if part.get("type") == "tool_use"]
        extras: dict[str, Any] = {"reasoning": content.reasoning, "tool_calls": calls}
        if calls and any(part.get("type") not in ("text", "tool_use") for part in data["content"]):
            extras |= as_extra(_API, data["content"])  # thoughts are signed
        return Reply(
            text=content.text,
            finish_reason=data.get("stop_reason"),
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
            model=data.get("model"),
        )

    def streaming(self) -> Streaming:
        """Return that of the Messages API."""
        return MessagesStreaming()

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts under the names of chat completions."""
        reported = counts_of(data.get("usage")) if isinstance(data, Mapping) else {}
        if "input_tokens" not in reported or "output_tokens" not in reported:
            return {}
        return named_counts(
            prompt=sum(reported.get(name, 0) for name in _READ),
            completion=reported["output_tokens"],
            cached=reported.get("cache_read_input_tokens"),
            written=reported.get("cache_creation_input_tokens"),
            written_5m=whole(inner(data, "usage", "cache_creation", "ephemeral_5m_input_tokens")),
        )

    def batch(self) -> AnthropicBatchAdapter:
        """Return Message Batches."""
        from llm_datagen.llm.http.batch.anthropic import AnthropicBatchAdapter

        return AnthropicBatchAdapter()


def _tool(tool: Any) -> Any:
    """Return a tool as this API has it, also when it is given as chat completions have it."""
    function = function_of(tool)
    return tool if function is None else {"input_schema": function.pop("parameters", {"type": "object"}), **function}


def _part(part: Any, request: ChatRequest) -> Any:
    if isinstance(part, OwnPart):
        return part.part
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
    if isinstance(part, ToolResult):
        return {"type": "tool_result", "tool_use_id": part.id, "content": part.text}
    image = image_in(part, request, _API, kept=_BESIDE)
    if image is None:
        return part
    beside = {name: part[name] for name in _BESIDE if name in part}
    if isinstance(image, str):
        return {"type": "image", "source": {"type": "url", "url": image}, **beside}
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return {"type": "image", "source": source, **beside}
