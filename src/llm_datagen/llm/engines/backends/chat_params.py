"""What a request says of its answer, read by the engines that sample by themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from llm_datagen.llm.engines.backends.base import CallError

_OF_THE_CALL = ("messages", "model", "chat_template_kwargs")


def checked_params(body: Mapping[str, Any], known: Collection[str], engine: str) -> dict[str, Any]:
    """Return the params of a request.

    Args:
        body: the request.
        known: the names of params that the engine does what they say.
        engine: its name, for the error.

    Raises:
        CallError: on one that it does not know: left out, the answer would be another one than was asked for.
    """
    found = {name: value for name, value in body.items() if name not in _OF_THE_CALL and value is not None}
    unknown = sorted(set(found) - set(known))
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise CallError(400, f"params: {engine} does not know {names}; it knows {', '.join(sorted(known))}")
    return found


def number_in(params: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    """Return a param that is a number.

    Raises:
        CallError: when it is none, or too small or large.
    """
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise CallError(400, f"params: {name} must be a number from {least:g} to {most:g}, not {value!r}")
    return value


def count_in(params: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of some params that is there, a whole number of at least 1; None for none.

    Raises:
        CallError: when it is none.
    """
    for name in names:
        if name in params:
            value = params[name]
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise CallError(400, f"params: {name} must be a whole number of at least 1, not {value!r}")
            return value
    return None


def stops_in(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts at which an answer ends.

    Raises:
        CallError: when they are none.
    """
    given = params.get("stop", ())
    stops = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else (None,)
    if not all(isinstance(each, str) and each for each in stops):
        raise CallError(400, f"params: stop must be a text or a list of texts, not {given!r}")
    return tuple(str(each) for each in stops)


def messages_in(body: Mapping[str, Any], engine: str) -> list[dict[str, Any]]:
    """Return messages whose contents are texts.

    Raises:
        CallError: when one holds anything else, such as an image.
    """
    found = []
    for message in body["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            if any(not isinstance(part, Mapping) or part.get("type") != "text" for part in content):
                raise CallError(400, f"messages: {engine} takes texts only, and no images")
            content = "".join(str(part["text"]) for part in content)
        found.append({**message, "content": content})
    return found


def too_long(prompt: int, context: int) -> CallError:
    """Return the error of a prompt that leaves no room for an answer.

    Args:
        prompt: its tokens.
        context: the tokens of prompt and answer together.
    """
    return CallError(
        413,
        f"the prompt has {prompt:,} tokens, and prompt and answer may have {context:,} together: raise context of the "
        "engine, or shorten the prompt",
    )
