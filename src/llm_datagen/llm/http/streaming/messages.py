"""Anthropic's Messages API that is streamed: a message is opened, its parts grow one by one, and it is closed."""

from __future__ import annotations

from typing import Any

from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming, put_together, size_of
from llm_datagen.streams.formats.json_text import dumps

_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""Kinds of pieces, and the text of a part that each is a piece of; named alike within the piece."""


class MessagesStreaming(Streaming):
    """The Messages API."""

    def assembler(self) -> Assembler:
        """Return what puts the events of a message together."""
        return _MessageAssembler()


class _MessageAssembler(Assembler):
    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._parts: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    @property
    def is_whole(self) -> bool:
        return bool(self._message.get("stop_reason"))

    def add(self, name: str, data: Any) -> int:
        match data["type"]:
            case "message_start":
                self._message = dict(data["message"])
                self._add_usage(self._message.get("usage"))
            case "content_block_start":
                part = dict(data["content_block"])
                self._parts[data["index"]] = part
                is_empty = not any(part.get(text) for text in _PIECES.values())
                return 0 if is_empty and part.get("type") in ("text", "thinking") else len(dumps(part))
            case "content_block_delta":
                return self._add_piece(data["index"], data["delta"])
            case "message_delta":
                self._message |= data["delta"]
                self._add_usage(data.get("usage"))
            case "message_stop":
                if not self._message:
                    raise ValueError("a message that never began has ended")
                self.is_over = True
        return 0

    def body(self) -> Any:
        return {
            **self._message,
            "content": [self._part(index) for index in sorted(self._parts)],
            "usage": self._usage,
        }

    def _add_usage(self, usage: Any) -> None:
        self._usage |= {name: value for name, value in (usage or {}).items() if value is not None}

    def _add_piece(self, index: int, delta: Any) -> int:
        part, kind = self._parts[index], delta["type"]
        if kind == "input_json_delta":
            self._pieces.setdefault((index, "input"), []).append(delta["partial_json"])
            return size_of(delta["partial_json"])
        if kind == "citations_delta":
            part["citations"] = [*(part.get("citations") or ()), delta["citation"]]
            return len(dumps(delta["citation"]))
        if kind in _PIECES:
            text = _PIECES[kind]
            self._pieces.setdefault((index, text), []).append(delta[text])
            return size_of(delta[text])
        return 0

    def _part(self, index: int) -> dict[str, Any]:
        part = self._parts[index]
        grown: dict[str, Any] = {}
        for text in (*_PIECES.values(), "input"):
            pieces = self._pieces.get((index, text))
            if pieces is not None:
                grown[text] = put_together(pieces) if text == "input" else (part.get(text) or "") + "".join(pieces)
        return {**part, **grown}
