"""The API of Ollama that is streamed: every line is a response, with the next piece of its message."""

from __future__ import annotations

from typing import Any

from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming, size_of
from llm_datagen.llm.http.streaming.frames import LineFrames
from llm_datagen.streams.formats.json_text import dumps

_TEXTS = ("content", "thinking")


class OllamaStreaming(Streaming):
    """``/api/chat``. A body that is not streamed is one line, too."""

    frames = LineFrames

    def reads(self, content_type: str) -> bool:
        """Return whether a response is a stream."""
        return not content_type.startswith("text/html")

    def assembler(self) -> Assembler:
        """Return what puts the lines together."""
        return _LineAssembler()


class _LineAssembler(Assembler):
    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._texts: dict[str, list[str]] = {}
        self._lists: dict[str, list[Any]] = {}

    @property
    def is_whole(self) -> bool:
        return self.is_over

    def add(self, name: str, data: Any) -> int:
        message = data.get("message") or {}
        kept = sum(self._add_text(text, message[text]) for text in _TEXTS if message.get(text) is not None)
        kept += self._add_list("tool_calls", message.get("tool_calls"))
        kept += self._add_list("logprobs", data.get("logprobs"))
        self._message |= {name: value for name, value in message.items() if name not in (*_TEXTS, "tool_calls")}
        self._fields |= {name: value for name, value in data.items() if name not in ("message", "logprobs")}
        if data.get("done"):
            self.is_over = True
        return kept

    def body(self) -> Any:
        message = {**self._message, **{name: "".join(pieces) for name, pieces in self._texts.items()}}
        lists = dict(self._lists)
        if "tool_calls" in lists:
            message["tool_calls"] = lists.pop("tool_calls")
        return {**self._fields, **lists, "message": message}

    def _add_text(self, name: str, piece: Any) -> int:
        if not isinstance(piece, str):
            raise TypeError(f"a {name} cannot be of type {type(piece).__name__}")
        self._texts.setdefault(name, []).append(piece)
        return size_of(piece)

    def _add_list(self, name: str, given: Any) -> int:
        if not given:
            return 0
        self._lists.setdefault(name, []).extend(given)
        return len(dumps(given))
