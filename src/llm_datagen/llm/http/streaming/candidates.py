"""Google's Gemini API that is streamed: every event is a response, with the next pieces of its candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.llm.http.reading import inner
from llm_datagen.llm.http.streaming.assembly import Assembler, Streaming
from llm_datagen.llm.http.streaming.options import Stream
from llm_datagen.streams.formats.json_text import dumps

_CALL = ":generateContent"
_TEXT_FIELDS = {"text", "thought"}
_LISTS = ("topCandidates", "chosenCandidates")
"""Lists of logprobs that grow."""


class CandidatesStreaming(Streaming):
    """``streamGenerateContent``."""

    def path(self, path: str) -> str:
        """Return the path, which asks for server-sent events."""
        return f"{path.removesuffix(_CALL)}:streamGenerateContent?alt=sse"

    def body(self, body: Mapping[str, Any], options: Stream) -> Mapping[str, Any]:
        """Return the body as it is: the path says that the answer is streamed."""
        return body

    def assembler(self) -> Assembler:
        """Return what puts the candidates together."""
        return _CandidateAssembler()


class _CandidateAssembler(Assembler):
    """No event says that it is the last one; but some versions give a reason to stop from the first event on."""

    def __init__(self) -> None:
        self._response: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}
        self._parts: dict[int, list[Any]] = {}

    @property
    def is_whole(self) -> bool:
        if self._candidates:
            return all(each.get("finishReason") for each in self._candidates.values())
        return bool(inner(self._response, "promptFeedback", "blockReason"))

    def add(self, name: str, data: Any) -> int:
        self._response |= {name: value for name, value in data.items() if name != "candidates"}
        return sum(map(self._add_candidate, data.get("candidates") or ()))

    def body(self) -> Any:
        candidates = [
            {**self._candidates[index], "content": {"role": "model", "parts": _joined(self._parts[index])}}
            for index in sorted(self._candidates)
        ]
        return {**self._response, "candidates": candidates} if candidates else self._response

    def _add_candidate(self, given: Mapping[str, Any]) -> int:
        index = given.get("index") or 0
        candidate = self._candidates.setdefault(index, {"index": index})
        parts = inner(given, "content", "parts") or []
        # The last event may have an empty text, which is no part of the answer.
        parts = [part for part in parts if part.get("text") or not set(part) <= _TEXT_FIELDS]
        self._parts.setdefault(index, []).extend(parts)
        logprobs = given.get("logprobsResult") or {}
        known = candidate.get("logprobsResult") or {}
        candidate |= {name: value for name, value in given.items() if name not in ("content", "index")}
        if logprobs or known:
            grown = {name: [*known.get(name, ()), *logprobs.get(name, ())] for name in _LISTS}
            candidate["logprobsResult"] = {**known, **logprobs, **grown}
        return len(dumps(parts)) + len(dumps(logprobs)) if parts else 0


def _joined(parts: list[Any]) -> list[Any]:
    """Return parts with the texts that follow one another as one."""
    found: list[Any] = []
    texts: list[str] = []
    for part in parts:
        is_text = "text" in part and set(part) <= _TEXT_FIELDS
        if is_text and found and texts and found[-1].get("thought") == part.get("thought"):
            texts.append(part["text"])
            continue
        if texts:
            found[-1] = {**found[-1], "text": "".join(texts)}
        found.append(part)
        texts = [part["text"]] if is_text else []
    if texts:
        found[-1] = {**found[-1], "text": "".join(texts)}
    return found
