"""The events that APIs stream, made of the bodies that they send otherwise, in shapes of their own."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

Events = Iterator[tuple[str, Any]]
"""The name of each event ("" for none), and its data: JSON, or a text that is sent as it is."""
PIECE = 2
"""So many characters of a text come at once."""


def pieces(text: str) -> list[str]:
    """Return a text in pieces; an empty one is one piece."""
    return [text[at : at + PIECE] for at in range(0, len(text), PIECE)] or [""]


def sse(events: Events, *, end: str = "\n") -> bytes:
    """Return server-sent events as bytes."""
    lines = []
    for name, data in events:
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        lines += [*([f"event: {name}"] if name else []), *(f"data: {line}" for line in text.split("\n")), ""]
    return "".join(line + end for line in lines).encode()


def lines(events: Events) -> bytes:
    """Return events as lines of JSON."""
    return b"".join(json.dumps(data, ensure_ascii=False).encode() + b"\n" for _, data in events)


def chat(body: Mapping[str, Any]) -> Events:
    """Yield the chunks of a chat completion."""
    head = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}
    for choice in body.get("choices", ()):
        for delta in _deltas(choice["message"]):
            yield "", {**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
    for choice in body.get("choices", ()):
        last = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield "", {**head, "choices": [last]}
    if body.get("usage"):
        yield "", {**head, "choices": [], "usage": body["usage"]}
    yield "", "[DONE]"


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if isinstance(message.get("content"), str) else None}
    for name in ("reasoning_content", "reasoning", "refusal"):
        yield from ({name: piece} for piece in pieces(message.get(name) or "") if piece)
    content = message.get("content")
    if isinstance(content, str):
        yield from ({"content": piece} for piece in pieces(content))
    for part in content if isinstance(content, list) else ():
        yield {"content": [part]} if part["type"] != "text" else {"content": part["text"]}
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        yield {"tool_calls": [{"index": index, **call, "function": {**function, "arguments": ""}}]}
        for piece in pieces(function["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def messages(body: Mapping[str, Any]) -> Events:
    """Yield the events of Anthropic's Messages API, each of which has its name in its data, too."""
    for name, data in _message(body):
        yield name, {"type": name, **data}


def _message(body: Mapping[str, Any]) -> Events:
    usage = body["usage"]
    start = {**body, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"message": start}
    yield "ping", {}
    for index, part in enumerate(body["content"]):
        match part["type"]:
            case "text":
                opened: dict[str, Any] = {**part, "text": ""}
                deltas = [{"type": "text_delta", "text": piece} for piece in pieces(part["text"])]
            case "thinking":
                opened = {"type": "thinking", "thinking": "", "signature": ""}
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(part["thinking"])]
                deltas.append({"type": "signature_delta", "signature": part["signature"]})
            case _:
                opened = {**part, "input": {}}
                text = json.dumps(part["input"])
                deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces(text))]
        yield "content_block_start", {"index": index, "content_block": opened}
        for delta in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    ended = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": ended, "usage": {"output_tokens": usage["output_tokens"]}}
    yield "message_stop", {}


def candidates(body: Mapping[str, Any]) -> Events:
    """Yield the responses of Gemini: the counts grow, and the reason to stop comes last."""
    head = {name: value for name, value in body.items() if name not in ("candidates", "usageMetadata")}
    for candidate in body.get("candidates", ()):
        for part in candidate["content"]["parts"]:
            grows = [{**part, "text": piece} for piece in pieces(part["text"])] if "text" in part else [part]
            for piece in grows:
                content = {"role": "model", "parts": [piece]}
                counts = {"promptTokenCount": 27, "totalTokenCount": 27}
                given = {"index": candidate["index"], "content": content}
                yield "", {**head, "candidates": [given], "usageMetadata": counts}
        last = {**candidate, "content": {"role": "model", "parts": [{"text": ""}]}}
        yield "", {**head, "candidates": [last], "usageMetadata": body["usageMetadata"]}
    if not body.get("candidates"):
        yield "", body


def response(body: Mapping[str, Any]) -> Events:
    """Yield the events of the Responses API, each of which has its name in its data, too."""
    for number, (name, data) in enumerate(_response(body)):
        yield name, {"type": name, "sequence_number": number, **data}


def _response(body: Mapping[str, Any]) -> Events:
    begun = {**body, "status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(body["output"]):
        yield "response.output_item.added", {"output_index": index, "item": {**item, "status": "in_progress"}}
        for part in item.get("content", ()):
            kind = "refusal" if part["type"] == "refusal" else "output_text"
            text = part.get("text", part.get("refusal"))
            for piece in pieces(text):
                yield f"response.{kind}.delta", {"output_index": index, "content_index": 0, "delta": piece}
            yield f"response.{kind}.done", {"output_index": index, "content_index": 0, "text": text}
        for piece in pieces(item["arguments"]) if "arguments" in item else ():
            yield "response.function_call_arguments.delta", {"output_index": index, "delta": piece}
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield f"response.{body['status']}", {"response": body}


def ollama(body: Mapping[str, Any]) -> Events:
    """Yield the lines of Ollama: the last one has no text, and the counts."""
    head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
    message = body["message"]
    for piece in pieces(message["thinking"]):
        yield "", {**head, "message": {"role": "assistant", "content": "", "thinking": piece}, "done": False}
    for piece in pieces(message["content"]):
        yield "", {**head, "message": {"role": "assistant", "content": piece}, "done": False}
    for call in message.get("tool_calls", ()):
        yield "", {**head, "message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": False}
    yield "", {**body, "message": {"role": "assistant", "content": ""}}


def converse(body: Mapping[str, Any]) -> Events:
    """Yield the events of ConverseStream: only a tool is opened by an event of its own."""
    yield "messageStart", {"role": "assistant", "p": "abc"}
    for index, part in enumerate(body["output"]["message"]["content"]):
        deltas: list[Any] = []
        if "text" in part:
            deltas = [{"text": piece} for piece in pieces(part["text"])]
        elif "reasoningContent" in part:
            thoughts = part["reasoningContent"]["reasoningText"]
            deltas = [{"reasoningContent": {"text": piece}} for piece in pieces(thoughts["text"])]
            deltas.append({"reasoningContent": {"signature": thoughts["signature"]}})
        else:
            tool = part["toolUse"]
            opened = {"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}}
            yield "contentBlockStart", {"contentBlockIndex": index, "start": opened}
            deltas = [{"toolUse": {"input": piece}} for piece in pieces(json.dumps(tool["input"]))]
        for delta in deltas:
            yield "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}
        yield "contentBlockStop", {"contentBlockIndex": index}
    yield "messageStop", {"stopReason": body["stopReason"]}
    yield "metadata", {"usage": body["usage"], "metrics": body["metrics"]}


def aws(events: Events) -> bytes:
    """Return events as messages of an event stream of AWS; those of failures have names that say so."""
    return b"".join(aws_message(name, json.dumps(data).encode()) for name, data in events)


def aws_message(name: str, body: bytes, **others: bytes) -> bytes:
    """Return a message; `others` are headers as they are sent, behind their names."""
    kind = "exception" if name.endswith("Exception") else "event"
    texts = {f":{kind}-type": name, ":content-type": "application/json", ":message-type": kind} if name else {}
    headers = b"".join(
        bytes([len(key)]) + key.encode() + value
        for key, value in {
            **{key: b"\x07" + len(value).to_bytes(2) + value.encode() for key, value in texts.items()},
            **others,
        }.items()
    )
    prelude = (len(headers) + len(body) + 16).to_bytes(4) + len(headers).to_bytes(4)
    message = prelude + zlib.crc32(prelude).to_bytes(4) + headers + body
    return message + zlib.crc32(message).to_bytes(4)
