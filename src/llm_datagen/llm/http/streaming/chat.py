"""Chat completions that are streamed: chunks, each with pieces of its choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming, size_of
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.streams.formats.json_text import dumps

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
"""Texts of a message that come in pieces."""
_GROWING = ("text", "summary", "data")
"""The same of a detail of its thoughts."""


class ChatStreaming(Streaming):
    """Chat completions. The counts of tokens come in the last chunk, if they are asked for.

    Args:
        knows_usage_option: whether the API may be asked for them, by ``stream_options``.
    """

    def __init__(self, *, knows_usage_option: bool = True) -> None:
        self._knows_usage_option = knows_usage_option

    def body(self, body: Mapping[str, Any], options: Stream) -> Mapping[str, Any]:
        """Return the body, which asks for the counts of tokens."""
        streamed = {**super().body(body, options)}
        if self._knows_usage_option and options.asks_usage:
            streamed["stream_options"] = {"include_usage": True, **(streamed.get("stream_options") or {})}
        return streamed

    def assembler(self) -> Assembler:
        """Return what puts chunks together."""
        return _ChatAssembler()


class _ChatAssembler(Assembler):
    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}

    @property
    def is_whole(self) -> bool:
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    def done(self) -> None:
        self.is_over = True

    def add(self, name: str, data: Any) -> int:
        for field, value in data.items():
            if field != "choices" and value is not None:
                self._fields[field] = value
        kept = 0
        for given in data.get("choices") or ():
            index = given.get("index") or 0
            if index not in self._choices:
                self._choices[index] = _Choice()
            kept += self._choices[index].add(given)
        return kept

    def body(self) -> Any:
        choices = [{"index": index, **self._choices[index].whole()} for index in sorted(self._choices)]
        return {**self._fields, "object": "chat.completion", "choices": choices}


class _Choice:
    def __init__(self) -> None:
        self.finish_reason: Any = None
        self._role: Any = "assistant"
        self._texts: dict[str, list[str]] = {}
        self._parts: list[Any] = []
        self._calls: list[_Call] = []
        self._function: _Call | None = None
        self._logprobs: dict[str, list[Any]] = {}
        self._details: dict[Any, dict[str, Any]] = {}

    def add(self, given: Mapping[str, Any]) -> int:
        """Take a piece of it, and return how many bytes it brought."""
        delta = given.get("delta") or {}
        self._role = delta.get("role") or self._role
        kept = 0
        for name, piece in delta.items():
            if name in _TEXTS and piece is not None:
                kept += self._add_text(name, piece)
        for number, call in enumerate(delta.get("tool_calls") or ()):
            kept += self._call_of(call, number).add(call)
        if delta.get("function_call"):
            self._function = self._function or _Call()
            kept += self._function.add({"function": delta["function_call"]})
        for detail in delta.get("reasoning_details") or ():
            kept += self._add_detail(detail)
        for name, found in (given.get("logprobs") or {}).items():
            if isinstance(found, list):
                self._logprobs.setdefault(name, []).extend(found)
                kept += len(dumps(found))
        if given.get("finish_reason"):
            self.finish_reason = given["finish_reason"]
        return kept

    def whole(self) -> dict[str, Any]:
        """Return it as a completion has it."""
        message: dict[str, Any] = {"role": self._role, "content": None}
        message |= {name: "".join(pieces) for name, pieces in self._texts.items()}
        if self._parts:
            message["content"] = self._parts
        if self._details:
            message["reasoning_details"] = list(self._details.values())
        if self._calls:
            message["tool_calls"] = [call.whole() for call in self._calls]
        if self._function is not None:
            message["function_call"] = self._function.whole()["function"]
        return {"message": message, "finish_reason": self.finish_reason, "logprobs": self._logprobs or None}

    def _add_text(self, name: str, piece: Any) -> int:
        if name == "content" and (isinstance(piece, list) or self._parts):
            parts = piece if isinstance(piece, list) else [{"type": "text", "text": piece}] if piece else []
            before = self._texts.pop("content", None)
            self._parts += [{"type": "text", "text": "".join(before)}, *parts] if before else parts
            return len(dumps(parts)) if parts else 0
        if not isinstance(piece, str):
            raise TypeError(f"a {name} cannot be of type {type(piece).__name__}")
        self._texts.setdefault(name, []).append(piece)
        return size_of(piece)

    def _add_detail(self, detail: Mapping[str, Any]) -> int:
        """Take a piece of the thoughts that some servers want back with the calls of tools."""
        known = self._details.setdefault((detail.get("index"), detail.get("type")), {})
        for name, value in detail.items():
            if name in _GROWING and isinstance(value, str):
                known[name] = (known.get(name) or "") + value
            elif value is not None or name not in known:
                known[name] = value
        return len(dumps(detail))

    def _call_of(self, given: Mapping[str, Any], number: int) -> _Call:
        """Return the call that a piece belongs to. Servers do not agree on the index: then the id tells."""
        index, own = given.get("index", number), given.get("id")
        found = next((call for call in reversed(self._calls) if call.index == index), None)
        if found is None or (own and found.id and found.id != own):
            found = _Call(index)
            self._calls.append(found)
        return found


class _Call:
    """A call of a tool."""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        self.id: Any = None
        self._fields: dict[str, Any] = {}
        self._name: Any = None
        self._arguments: list[str] = []
        self._given: Any = None

    def add(self, given: Mapping[str, Any]) -> int:
        self.id = given.get("id") or self.id
        others = {name: value for name, value in given.items() if name not in ("index", "id", "function")}
        self._fields |= {name: value for name, value in others.items() if value is not None}
        function = given.get("function") or {}
        self._name = function.get("name") or self._name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            self._arguments.append(arguments)
        elif arguments is not None:
            self._given = arguments
        return size_of(function.get("name")) + size_of(arguments) + (len(dumps(self._given)) if self._given else 0)

    def whole(self) -> dict[str, Any]:
        arguments = "".join(self._arguments) if self._given is None else self._given
        function = {"name": self._name, "arguments": arguments}
        return {**({"id": self.id} if self.id is not None else {}), **self._fields, "function": function}
