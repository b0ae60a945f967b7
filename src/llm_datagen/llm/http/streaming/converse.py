"""ConverseStream of Amazon Bedrock: a message is opened, its parts grow one by one, and its counts come last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.http.body import parsed_event
from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming, put_together, size_of
from llm_datagen.llm.http.streaming.aws_frames import AwsFrames
from llm_datagen.llm.http.streaming.frames import Event
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.streams.formats.json_text import dumps

_CODES = {"validationException": "invalid_request", "modelStreamErrorException": "server_error"}
"""What the names of failures are called elsewhere; the others are understood."""
_EXCEPTION = "Exception"


class ConverseStreaming(Streaming):
    """``converse-stream``."""

    frames = AwsFrames

    def path(self, path: str) -> str:
        """Return the path of the other operation."""
        return f"{path}-stream"

    def body(self, body: Mapping[str, Any], options: Stream) -> Mapping[str, Any]:
        """Return the body as it is: the path says that the answer is streamed."""
        return body

    def assembler(self) -> Assembler:
        """Return what puts the events of a message together."""
        return _ConverseAssembler()


class _ConverseAssembler(Assembler):
    def __init__(self) -> None:
        self._role: Any = "assistant"
        self._ended: dict[str, Any] = {}
        self._parts: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, str], list[str]] = {}

    @property
    def is_whole(self) -> bool:
        return "stopReason" in self._ended

    def take(self, event: Event) -> int:
        if event.name.endswith(_EXCEPTION):
            told = parsed_event(event.data)
            self.error = {"error": {**told, "code": _CODES.get(event.name, event.name)}}
            return 0
        return super().take(event)

    def add(self, name: str, data: Any) -> int:
        match name:
            case "messageStart":
                self._role = data["role"]
            case "contentBlockStart":
                self._parts[data["contentBlockIndex"]] = dict(data["start"])
                return len(dumps(data["start"]))
            case "contentBlockDelta":
                return self._add_piece(data["contentBlockIndex"], data["delta"])
            case "messageStop":
                self._ended |= data
            case "metadata":
                self._ended |= data
                self.is_over = self.is_whole
        return 0

    def body(self) -> Any:
        content = [self._part(index) for index in sorted(self._parts)]
        return {**self._ended, "output": {"message": {"role": self._role, "content": content}}}

    def _add_piece(self, index: int, delta: Any) -> int:
        # Only the part of a tool is opened by an event of its own.
        (kind, piece), *_ = delta.items()
        part = self._parts.setdefault(index, {})
        match kind:
            case "text":
                part.setdefault("text", "")
                return self._add_text(index, "text", piece)
            case "toolUse":
                return self._add_text(index, "input", piece["input"])
            case "reasoningContent":
                part.setdefault("reasoningContent", {})
                if "redactedContent" in piece:
                    part["reasoningContent"] |= piece
                    return len(dumps(piece))
                return sum(self._add_text(index, f"reasoning {name}", text) for name, text in piece.items())
        return 0

    def _add_text(self, index: int, name: str, piece: Any) -> int:
        if not isinstance(piece, str):
            raise TypeError(f"a {name} cannot be of type {type(piece).__name__}")
        self._texts.setdefault((index, name), []).append(piece)
        return size_of(piece)

    def _part(self, index: int) -> dict[str, Any]:
        part = dict(self._parts[index])
        texts = {name: pieces for (at, name), pieces in self._texts.items() if at == index}
        if "text" in part:
            part["text"] = "".join(texts["text"])
        if "toolUse" in part:
            part["toolUse"] = {**part["toolUse"], "input": put_together(texts.get("input", []))}
        thoughts = {
            name.removeprefix("reasoning "): "".join(pieces)
            for name, pieces in texts.items()
            if name.startswith("reasoning ")
        }
        if thoughts:
            part["reasoningContent"] = {**part["reasoningContent"], "reasoningText": thoughts}
        return part
