"""Calls of tools in an answer: read in any form that endpoints have for them, put as chat completions have them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.llm.errors import LLMAnswerError
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.llm.types import OWN_TURN, ChatAnswer
from llm_datagen.streams.formats.json_text import loads, without_lone_surrogates

_INVALID = "invalid_json"
_ARGUMENTS = ("arguments", "input", "args")
_IDS = ("id", "call_id", "toolUseId")
_BESIDE = ("extra_content", "provider_specific_fields")
"""What some servers of chat completions, and litellm, want back with a call: signatures of thoughts."""

Message = Mapping[str, Any]


def calls_tools(answer: ChatAnswer) -> bool:
    """Return whether an answer is whole, and calls tools; some endpoints end it as they end a text."""
    is_whole = answer.ends in (Ending.FINISHED, Ending.TOOL) and "refusal" not in answer.extras
    return is_whole and bool(answer.extras.get("tool_calls"))


def calls_of(answer: ChatAnswer, *, before: int = 0) -> list[dict[str, Any]]:
    """Return the calls of an answer as chat completions have them: each with an id of its own, arguments as JSON text.

    Arguments that are no JSON object become ``{"invalid_json": …}``, because endpoints refuse them when they are sent
    back.

    Args:
        answer: the answer.
        before: calls that came before in the conversation; ids are made of the number where an endpoint gives none.

    Raises:
        LLMAnswerError: when a call has no name.
    """
    given = answer.extras.get("tool_calls") or []
    calls: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, call in enumerate(given if isinstance(given, list) else [given], start=before + 1):
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not name:
            raise LLMAnswerError(
                f"the answer of {answer.model} at {answer.endpoint} calls a tool, and does not say which",
                finish_reason=answer.finish_reason,
            )
        call_id = _id_of(call)
        if call_id is None or call_id in seen:
            call_id = f"call{number:05d}"  # nine letters and digits, as Mistral wants them
        seen.add(call_id)
        arguments = next((function[key] for key in _ARGUMENTS if key in function), None)
        put = {"id": call_id, "type": "function", "function": {"name": name, "arguments": _as_text(arguments)}}
        calls.append({**put, **{key: call[key] for key in _BESIDE if key in call}})
    return calls


def arguments_of(call: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a call of `calls_of`; None when they were no JSON object, or are nested too deeply."""
    try:
        found = without_lone_surrogates(loads(call["function"]["arguments"]))
    except RecursionError:
        return None
    return None if found.keys() == {_INVALID} else found


def assistant_message(answer: ChatAnswer, text: str | None, *, before: int = 0) -> dict[str, Any]:
    """Return an answer as a message of the conversation, with its calls, if there are any.

    Args:
        answer: the answer.
        text: its text.
        before: see `calls_of`.
    """
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls_tools(answer):
        message["tool_calls"] = calls_of(answer, before=before)
        if OWN_TURN in answer.extras:
            message[OWN_TURN] = {**answer.extras[OWN_TURN], "model": answer.model}
    return message


def plain_messages(messages: Sequence[Message]) -> list[Message]:
    """Return messages without what only the API that wrote them wants back."""
    return [_plain(message) for message in messages]


def _plain(message: Message) -> Message:
    if OWN_TURN not in message:
        return message
    return {name: value for name, value in message.items() if name != OWN_TURN}


def _id_of(call: Mapping[str, Any]) -> str | None:
    # OpenAI's Responses have two: a result belongs to the "call_id".
    found = call.get("call_id") or next((call[name] for name in _IDS if call.get(name)), None)
    return found if isinstance(found, str) else None


def _as_text(arguments: Any) -> str:
    if arguments is None or arguments == "":
        return "{}"
    if not isinstance(arguments, str):
        if isinstance(arguments, dict):
            return json.dumps(arguments, ensure_ascii=False)
        return json.dumps({_INVALID: json.dumps(arguments)})
    try:
        is_object = isinstance(loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return arguments if is_object else json.dumps({_INVALID: arguments}, ensure_ascii=False)
