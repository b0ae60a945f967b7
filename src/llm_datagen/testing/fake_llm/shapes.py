"""The shapes of the APIs that a fake endpoint speaks: each of them to and from chat completions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 500: 13, 503: 14}
_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


class Shape(Protocol):
    """How one API puts requests, answers and errors."""

    def to_chat(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:
        """Return a request as chat completions have it. `model` is that of the path, where it stands there."""

    def from_chat(self, completion: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a chat completion as this API has it."""

    def error(self, status: int, message: str, code: str | None = None) -> dict[str, Any]:
        """Return the body of an error."""


class ChatShape:
    """Chat completions."""

    def to_chat(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:  # noqa: D102
        return {"model": model, **body}

    def from_chat(self, completion: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: D102
        return completion

    def error(self, status: int, message: str, code: str | None = None) -> dict[str, Any]:  # noqa: D102
        return {"error": {"message": message, "type": "fake", "param": None, "code": code}}


class ResponsesShape(ChatShape):
    """OpenAI's Responses API."""

    def to_chat(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:  # noqa: D102
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        chat: dict[str, Any] = {
            "model": body.get("model", ""),
            "messages": [
                {"role": item["role"], "content": _texts(item["content"])} for item in items if "role" in item
            ],
        }
        wanted = (body.get("text") or {}).get("format")
        if wanted:
            chat["response_format"] = {"type": wanted["type"], "json_schema": wanted}
        tools = [{"function": tool} for tool in body.get("tools") or ()]
        return chat | _limit(body.get("max_output_tokens")) | _tools(tools, body.get("tool_choice"))

    def from_chat(self, completion: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: D102
        text, call, is_cut, usage = _parts(completion)
        message = {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
        function = {"type": "function_call", "call_id": "call_0", "name": call, "arguments": text}
        return {
            "id": f"resp_{completion['id']}",
            "object": "response",
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "model": completion["model"],
            "output": [function if call else message],
            "usage": {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)},
        }


class AnthropicShape:
    """Anthropic's Messages API."""

    def to_chat(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:  # noqa: D102
        system = [{"role": "system", "content": _texts(body["system"])}] if body.get("system") else []
        turns = [{"role": turn["role"], "content": _texts(turn["content"])} for turn in body["messages"]]
        chat: dict[str, Any] = {"model": body.get("model", ""), "messages": [*system, *turns]}
        wanted = (body.get("output_config") or {}).get("format")
        if wanted:
            chat["response_format"] = {"type": "json_schema", "json_schema": wanted}
        tools = [
            {"function": {"name": tool["name"], "parameters": tool.get("input_schema")}}
            for tool in body.get("tools") or ()
        ]
        return chat | {"max_tokens": body["max_tokens"]} | _tools(tools, body.get("tool_choice"))

    def from_chat(self, completion: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: D102
        text, call, is_cut, usage = _parts(completion)
        use = {"type": "tool_use", "id": "toolu_0", "name": call, "input": orjson.loads(text) if call else None}
        return {
            "id": f"msg_{completion['id']}",
            "type": "message",
            "role": "assistant",
            "model": completion["model"],
            "content": [use if call else {"type": "text", "text": text}],
            "stop_reason": "max_tokens" if is_cut else "tool_use" if call else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
        }

    def error(self, status: int, message: str, code: str | None = None) -> dict[str, Any]:  # noqa: D102
        return {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": message}}


class GeminiShape:
    """Gemini's generateContent."""

    def to_chat(self, body: Mapping[str, Any], model: str) -> dict[str, Any]:  # noqa: D102
        system = body.get("systemInstruction")
        turns = [
            {"role": "assistant" if turn.get("role") == "model" else "user", "content": _texts(turn["parts"])}
            for turn in body["contents"]
        ]
        if system:
            turns.insert(0, {"role": "system", "content": _texts(system["parts"])})
        chat: dict[str, Any] = {"model": model, "messages": turns}
        config = body.get("generationConfig") or {}
        if "responseJsonSchema" in config:
            schema = {"schema": config["responseJsonSchema"]}
            chat["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif config.get("responseMimeType") == "application/json":
            chat["response_format"] = {"type": "json_object"}
        return chat | _limit(config.get("maxOutputTokens"))

    def from_chat(self, completion: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: D102
        text, _, is_cut, usage = _parts(completion)
        reason = "MAX_TOKENS" if is_cut else "STOP"
        content = {"role": "model", "parts": [{"text": text}]}
        return {
            "candidates": [{"content": content, "finishReason": reason, "index": 0}],
            "usageMetadata": {
                "promptTokenCount": usage[0],
                "candidatesTokenCount": usage[1],
                "totalTokenCount": sum(usage),
            },
            "modelVersion": completion["model"],
        }

    def error(self, status: int, message: str, code: str | None = None) -> dict[str, Any]:  # noqa: D102
        return {"error": {"code": status, "message": message, "status": _WORDS.get(status, "INTERNAL")}}


def grpc_error(status: int, message: str) -> dict[str, Any]:
    """Return an error of a row as Gemini puts it, with the code of gRPC for an HTTP status."""
    return {"code": _CODES.get(status, 13), "message": message}


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if "text" in part)


def _limit(tokens: Any) -> dict[str, Any]:
    return {"max_tokens": tokens} if tokens else {}


def _tools(tools: Sequence[Mapping[str, Any]], choice: Any) -> dict[str, Any]:
    name = choice.get("name") if isinstance(choice, Mapping) else None
    forced = {"tool_choice": {"type": "function", "function": {"name": name}}} if name else {}
    return {"tools": list(tools), **forced} if tools else {}


def _parts(completion: Mapping[str, Any]) -> tuple[str, str, bool, tuple[int, int]]:
    """Return the text, or the arguments of a call; the call's function; whether it is cut off; the tokens."""
    choice, usage = completion["choices"][0], completion["usage"]
    calls = choice["message"].get("tool_calls")
    function = calls[0]["function"] if calls else None
    text = function["arguments"] if function else choice["message"]["content"]
    tokens = usage["prompt_tokens"], usage["completion_tokens"]
    return text, function["name"] if function else "", choice["finish_reason"] == "length", tokens


CHAT, RESPONSES, ANTHROPIC, GEMINI = ChatShape(), ResponsesShape(), AnthropicShape(), GeminiShape()
_SHAPES: dict[str, Shape] = {
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": CHAT,
    "/v1/rerank": CHAT,
    "/v1/responses": RESPONSES,
    "/v1/messages": ANTHROPIC,
}
_GENERATE = re.compile(r"/v1beta/models/([^/:]+):generateContent")


def shape_of(path: str) -> tuple[Shape, str] | None:
    """Return the shape of the calls to a path, and the model that the path names; None when there are no calls."""
    if path in _SHAPES:
        return _SHAPES[path], ""
    match = _GENERATE.fullmatch(path)
    return (GEMINI, match[1]) if match else None
