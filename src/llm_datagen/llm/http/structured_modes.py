"""The ways in which endpoints are asked for JSON: how a request is put in each, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from llm_datagen.llm.errors import LLMRequestError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.types import ChatAnswer, ChatRequest

Mode = Literal["json_schema", "json_object", "tool", "prompt"]
"""By a schema in ``response_format``; any JSON object; the arguments of a tool; or the prompt alone."""
MODES: tuple[Mode, ...] = ("json_schema", "json_object", "tool", "prompt")

_ASK = "Answer with nothing but a JSON object that is valid against this JSON schema:"
_ALL = (
    *("response_format", "response format", "output_config", "output_format", "text.format", "outputconfig"),
    *("response_mime_type", "responsemimetype", "response_json_schema", "responsejsonschema"),
    "chatrequest.format",
)
_WORDS: Mapping[Mode, Sequence[str]] = {
    "json_schema": (*_ALL, "json_schema", "json schema", "structured output", "structured_output", "guided", "grammar"),
    "json_object": (*_ALL, "json_object", "json object", "json mode"),
    "tool": ("tool", "function call", "function_call", "functions"),
    "prompt": (),
}


def asks_for_json(request: ChatRequest) -> bool:
    """Return whether a request has a schema for its answer."""
    return "response_format" in request.params


def put(request: ChatRequest, mode: Mode) -> ChatRequest:
    """Return a request that has a schema (`asks_for_json`) as it is asked in `mode`."""
    if mode == "json_schema":
        return request
    params = dict(request.params)
    asked = params.pop("response_format")["json_schema"]
    if mode == "tool":
        function = {"name": asked["name"], "description": "Takes the answer.", "parameters": asked["schema"]}
        if asked["strict"]:
            function["strict"] = True
        params["tools"] = [{"type": "function", "function": function}]
        params["tool_choice"] = {"type": "function", "function": {"name": asked["name"]}}
        return replace(request, params=params)
    if mode == "json_object":
        params["response_format"] = {"type": "json_object"}
    words = f"{_ASK}\n\n{json.dumps(asked['schema'], ensure_ascii=False)}"
    return replace(request, params=params, messages=_with(request.messages, words))


def read(answer: ChatAnswer, mode: Mode) -> ChatAnswer:
    """Return the answer with its JSON as the text. A model that was to call a tool may have written it all the same."""
    calls = answer.extras.get("tool_calls")
    if mode != "tool" or not calls or answer.ends not in (Ending.FINISHED, Ending.TOOL):
        return answer
    extras = {name: value for name, value in answer.extras.items() if name != "tool_calls"}
    return replace(answer, text="\n".join(_arguments(calls)), ending=Ending.FINISHED, extras=extras)


def is_refused(error: LLMRequestError, mode: Mode) -> bool:
    """Return whether an endpoint does not know this way of asking, or not with such a schema: it says so by name."""
    body = error.body.lower()
    return error.status in (400, 422) and not error.may_pass and any(word in body for word in _WORDS[mode])


def _with(messages: Sequence[Mapping[str, Any]], words: str) -> list[Mapping[str, Any]]:
    """Return messages whose last one of the user says `words`, too: not all models know a second system message."""
    found = list(messages)
    for at in range(len(found) - 1, -1, -1):
        if found[at]["role"] == "user":
            before = found[at]["content"]
            is_text = isinstance(before, str)
            content = f"{before}\n\n{words}" if is_text else [*before, {"type": "text", "text": words}]
            found[at] = {**found[at], "content": content}
            return found
    return [*found, {"role": "user", "content": words}]


def _arguments(calls: Any) -> Iterator[str]:
    """Yield what tools were called with, in any of the forms that endpoints have for it."""
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        given = next((function[name] for name in ("arguments", "input", "args") if name in function), None)
        if given is not None:
            yield given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
