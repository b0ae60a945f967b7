"""OpenAI's Responses API that is streamed: many events, of which the last one holds the whole response."""

from __future__ import annotations

from typing import Any

from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming, size_of
from llm_datagen.streams.formats.json_text import dumps

_LAST = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class ResponsesStreaming(Streaming):
    """The Responses API."""

    def assembler(self) -> Assembler:
        """Return what finds the response among the events."""
        return _ResponseAssembler()


class _ResponseAssembler(Assembler):
    def __init__(self) -> None:
        self._response: dict[str, Any] = {}
        self._items: dict[int, Any] = {}

    @property
    def is_whole(self) -> bool:
        return self.is_over

    def add(self, name: str, data: Any) -> int:
        kind = data.get("type") or name
        if kind == "error":
            self.error = {"error": data}
        elif kind in _LAST:
            self._response = dict(data["response"])
            self.is_over = True
            return len(dumps(self._response))
        elif kind == "response.output_item.done":
            self._items[data["output_index"]] = data["item"]
            return len(dumps(data["item"]))
        elif kind.endswith(".delta"):
            # It is not kept: what it is a piece of comes once more, whole.
            return min(size_of(data.get("delta")), 1)
        return 0

    def body(self) -> Any:
        # Some servers leave the items out of the last event, which they have sent one by one.
        items = [self._items[index] for index in sorted(self._items)]
        return {**self._response, "output": self._response.get("output") or items}
