"""The completions that a fake endpoint makes, and what they count."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from llm_datagen.testing.fake_llm.answers import Answer, ToolCalls, answer_of, forced_tool

CHARS_A_TOKEN = 4


class Completions:
    """Makes chat completions.

    Args:
        answer: what the server was given as ``answer``.
        seed: of the answers that are made up.
    """

    def __init__(self, answer: Answer, seed: int) -> None:
        self._answer = answer
        self._seed = seed
        self._made = 0

    def make(self, raw: bytes, body: Mapping[str, Any], *, is_cut_off: bool = False) -> dict[str, Any]:
        """Return the completion of a request.

        Args:
            raw: the request as it came; the same gets the same answer.
            body: the same, as chat completions have it.
            is_cut_off: whether half of the text is to be missing.

        Raises:
            ValueError: when the request asks for what cannot be made here.
        """
        answers = [
            answer_of(self._answer, body, b"%d/%d/" % (self._seed, sample) + raw)
            for sample in range(body.get("n") or 1)
        ]
        if not is_cut_off and any(isinstance(answer, ToolCalls) for answer in answers):
            return self._with_tools(body, answers)
        texts = [answer if isinstance(answer, str) else "" for answer in answers]
        if is_cut_off:
            texts = [text[: len(text) // 2] for text in texts]
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if limit and any(len(text) // CHARS_A_TOKEN > limit for text in texts):
            texts, is_cut_off = [text[: limit * CHARS_A_TOKEN] for text in texts], True
        reason = "length" if is_cut_off else "stop"
        tool = forced_tool(body)
        return self._completion(body, [(_message(text, tool), reason) for text in texts], sum(map(_tokens, texts)))

    def _with_tools(self, body: Mapping[str, Any], answers: Sequence[str | ToolCalls]) -> dict[str, Any]:
        before = len(body["messages"])
        messages = [
            ({"role": "assistant", "content": each}, "stop")
            if isinstance(each, str)
            else (each.message(before), "tool_calls")
            for each in answers
        ]
        return self._completion(body, messages, sum(_tokens(orjson.dumps(message)) for message, _ in messages))

    def _completion(
        self, body: Mapping[str, Any], messages: Sequence[tuple[dict[str, Any], str]], completion_tokens: int
    ) -> dict[str, Any]:
        prompt = prompt_tokens(body)
        self._made += 1
        return {
            "id": f"chatcmpl-{self._made}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.get("model", ""),
            "choices": [
                {"index": index, "message": message, "finish_reason": reason}
                for index, (message, reason) in enumerate(messages)
            ],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt + completion_tokens,
            },
        }


def prompt_tokens(body: Mapping[str, Any]) -> int:
    """Return the tokens of a prompt: four characters each."""
    return _tokens(orjson.dumps(body["messages"]))


def _tokens(text: str | bytes) -> int:
    return max(1, len(text) // CHARS_A_TOKEN)


def _message(text: str, tool: Mapping[str, Any] | None) -> dict[str, Any]:
    if tool is None:
        return {"role": "assistant", "content": text}
    call = {"id": "call_0", "type": "function", "function": {"name": tool["name"], "arguments": text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
