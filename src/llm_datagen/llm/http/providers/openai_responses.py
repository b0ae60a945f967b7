"""OpenAI's Responses API: ``POST {base_url}/responses``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llm_datagen.llm.http.adapters import ChatAdapter, Reply
from llm_datagen.llm.http.own_turns import as_extra
from llm_datagen.llm.http.prompt_cache import KEY
from llm_datagen.llm.http.providers.openai import OpenAIAdapter
from llm_datagen.llm.http.providers.translation import (
    OwnPart,
    ToolCall,
    ToolResult,
    Turn,
    forced_function,
    function_of,
    system_parts,
    take_limit,
    text_in,
    turns,
)
from llm_datagen.llm.http.reading import content_of, counts_of, inner, named_counts
from llm_datagen.llm.http.streaming.assembly import Streaming
from llm_datagen.llm.http.streaming.responses import ResponsesStreaming
from llm_datagen.llm.types import ChatRequest

if TYPE_CHECKING:
    from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter

_API = "Responses"


class OpenAIResponsesAdapter(ChatAdapter):
    """Speaks the Responses API, also that of other servers.

    The params are those of the API; ``max_tokens``, ``max_completion_tokens``, ``reasoning_effort`` and tools as chat
    completions have them are understood, too. OpenAI does not keep the answers unless the params say ``store``.
    """

    base_url = OpenAIAdapter.base_url
    base_url_env = OpenAIAdapter.base_url_env
    api_key_env = OpenAIAdapter.api_key_env
    structured_modes = ("json_schema", "json_object", "tool", "prompt")
    finished_words = ("completed",)
    prompt_cache = "key"
    url_ends = ("/chat/completions",)

    def path(self, model: str) -> str:
        """Return ``/responses``."""
        return "/responses"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        """Return the key as a bearer token."""
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        """Return the request: messages become items of the input.

        Raises:
            PromptError: when a call of a tool in the row, or its result, cannot be understood.
        """
        params = dict(request.params)
        system = [Turn("system", parts)] if (parts := system_parts(request)) else []
        result: dict[str, Any] = {
            **({} if request.prefix is None else {KEY: request.prefix.key}),
            "model": request.model,
            "store": False,
            "input": [item for turn in [*system, *turns(request, _API)] for item in _items(turn)],
        }
        limit = take_limit(params)
        if limit is not None:
            result["max_output_tokens"] = limit
        if "reasoning_effort" in params:
            result["reasoning"] = {"effort": params.pop("reasoning_effort"), **params.pop("reasoning", {})}
        if "response_format" in params:
            wanted = params.pop("response_format")
            result["text"] = {
                **params.pop("text", {}),
                "format": {"type": wanted["type"], **wanted.get("json_schema", {})},
            }
        if "tools" in params:
            result["tools"] = [_tool(tool) for tool in params.pop("tools")]
        forced = forced_function(params)
        if forced is not None:
            params["tool_choice"] = {"type": "function", "name": forced}
        return result | params

    def read(self, data: Any) -> Reply:
        """Return the texts of the output as one."""
        output = data["output"]
        parts = [part for item in output if item["type"] == "message" for part in item["content"]]
        content = content_of(parts)
        thoughts = [part for item in output if item["type"] == "reasoning" for part in item.get("summary") or ()]
        calls = [item for item in output if item["type"] == "function_call"]
        extras: dict[str, Any] = {
            "reasoning": "\n\n".join(part["text"] for part in thoughts),
            "refusal": content.refusal,
            "tool_calls": calls,
            "logprobs": [each for part in parts for each in part.get("logprobs") or ()],
        }
        if calls and any(_is_kept(item, data) for item in output):
            extras |= as_extra(_API, [item for item in output if item["type"] != "reasoning" or _is_kept(item, data)])
        reason = inner(data, "incomplete_details", "reason") or data.get("status")
        return Reply(
            text=content.text,
            finish_reason="function_call" if reason == "completed" and calls else reason,
            usage=self.usage(data),
            extras={name: value for name, value in extras.items() if value},
            model=data.get("model"),
        )

    def streaming(self) -> Streaming:
        """Return that of the Responses API."""
        return ResponsesStreaming()

    def usage(self, data: Any) -> Mapping[str, int]:
        """Return the token counts under the names of chat completions."""
        usage = inner(data, "usage")
        found = counts_of(usage)
        if "input_tokens" not in found or "output_tokens" not in found:
            return {}
        parts = counts_of(
            {
                "cached": inner(usage, "input_tokens_details", "cached_tokens"),
                "written": inner(usage, "input_tokens_details", "cache_write_tokens"),
                "reasoning": inner(usage, "output_tokens_details", "reasoning_tokens"),
            }
        )
        return named_counts(
            prompt=found["input_tokens"], completion=found["output_tokens"], total=found.get("total_tokens"), **parts
        )

    def batch(self) -> OpenAIBatchAdapter:
        """Return OpenAI's Batch API, for this one."""
        from llm_datagen.llm.http.batch.openai import OpenAIBatchAdapter

        return OpenAIBatchAdapter("/v1/responses")


def _is_kept(item: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Return whether an item is thoughts that can be sent back: they are in it, or kept by the API."""
    return item["type"] == "reasoning" and bool(item.get("encrypted_content") or data.get("store"))


def _items(turn: Turn) -> Iterator[dict[str, Any]]:
    """Yield a turn as items: calls of tools and their results are items of their own."""
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    others = [part for part in turn.parts if not isinstance(part, ToolResult | ToolCall | OwnPart)]
    yield from (part.part for part in turn.parts if isinstance(part, OwnPart))
    yield from ({"type": "function_call_output", "call_id": each.id, "output": each.text} for each in results)
    if others:
        kind = "output_text" if turn.role == "assistant" else "input_text"
        yield {"role": turn.role, "content": [_part(part, kind) for part in others]}
    for each in calls:
        arguments = json.dumps(each.arguments, ensure_ascii=False)
        yield {"type": "function_call", "call_id": each.id, "name": each.name, "arguments": arguments}


def _part(part: Any, kind: str) -> Any:
    text = text_in(part)
    if text is not None:
        return {"type": kind, "text": text}
    match part:
        case {"type": "image_url", "image_url": {"url": str(url), **told}, **beside}:
            return {"type": "input_image", "image_url": url, **told, **beside}
        case _:
            return part


def _tool(tool: Any) -> Any:
    function = function_of(tool)
    return tool if function is None else {"type": "function", **function}
