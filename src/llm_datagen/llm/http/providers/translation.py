"""What adapters need to put a request of chat completions in the words of another API."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.http.own_turns import own_turn
from llm_datagen.llm.types import ChatRequest


class DataImage(NamedTuple):
    """An image that is sent along.

    Attributes:
        media_type: such as ``image/png``.
        data: the file in base64.
    """

    media_type: str
    data: str


class ToolCall(NamedTuple):
    """A part of a turn: a call of a tool by the model.

    Attributes:
        id: of the call.
        name: of the tool.
        arguments: what it was called with.
    """

    id: str
    name: str
    arguments: dict[str, Any]


class ToolResult(NamedTuple):
    """A part of a turn: what a tool has said.

    Attributes:
        id: of the call.
        name: of the tool.
        text: what it said.
    """

    id: str
    name: str
    text: str


class OwnPart(NamedTuple):
    """A part of a turn that the API wants back as it wrote it.

    Attributes:
        part: the part.
    """

    part: Any


class Turn(NamedTuple):
    """A turn of a conversation.

    Attributes:
        role: ``user`` or ``assistant``.
        parts: as chat completions have them, calls of tools and their results.
    """

    role: str
    parts: list[Any]


_SYSTEM = ("system", "developer")


def system_parts(request: ChatRequest) -> list[Any]:
    """Return the parts of all system messages."""
    return [part for message in request.messages if message["role"] in _SYSTEM for part in parts_of(message["content"])]


def turns(request: ChatRequest, api: str = "") -> list[Turn]:
    """Return the messages that are not the system's as turns of the user and the assistant.

    Results of tools are the user's, with the message of the user that follows: APIs want them in one turn.

    Args:
        request: the request.
        api: whose own turns are put back as a list of `OwnPart`.

    Raises:
        PromptError: when a call of a tool, or its result, cannot be understood.
    """
    found: list[Turn] = []
    names: dict[str, str] = {}
    for message in request.messages:
        role, content = message["role"], message.get("content")
        if role in _SYSTEM:
            continue
        if role == "tool":
            parts: list[Any] = [_result(message, names, request.row)]
        else:
            calls = [_call(call, request.row) for call in message.get("tool_calls") or ()]
            names |= {call.id: call.name for call in calls}
            own = own_turn(message, request, api) if calls else None
            parts = [*(parts_of(content) if content else ()), *calls] if own is None else list(map(OwnPart, own))
        before = found[-1].parts if found else []
        if role != "assistant" and before and isinstance(before[-1], ToolResult):
            before.extend(parts)
        else:
            found.append(Turn("assistant" if role == "assistant" else "user", parts))
    return found


def _call(call: Any, row: str) -> ToolCall:
    try:
        function = call["function"]
        arguments = json.loads(function["arguments"] or "{}")
        return ToolCall(str(call["id"]), str(function["name"]), dict(arguments))
    except (LookupError, TypeError, ValueError) as error:
        raise PromptError(
            f"{row} has a call of a tool that is not as chat completions have it, with an id, and a function with "
            f"a name and arguments, a JSON object as text: {error!r}"
        ) from error


def _result(message: Mapping[str, Any], names: Mapping[str, str], row: str) -> ToolResult:
    of = message.get("tool_call_id")
    if not isinstance(of, str) or of not in names:
        raise PromptError(f"{row} has a message of a tool, and no call before it has its tool_call_id, {of!r}")
    texts = [text_in(part) for part in parts_of(message.get("content") or "")]
    if None in texts:
        raise PromptError(f"{row} has a result of a tool that is no text: the adapter cannot send it")
    return ToolResult(of, names[of], "\n\n".join(text or "" for text in texts))


def parts_of(content: str | list[Any]) -> list[Any]:
    """Return a content as a list of parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_in(part: Any) -> str | None:
    """Return the text of a part that is one and nothing else; else None, so that nothing of a part is lost."""
    match part:
        case {"type": "text", "text": str(text), **others} if not others:
            return text
        case _:
            return None


def image_in(part: Any, request: ChatRequest, api: str, *, kept: Collection[str] = ()) -> DataImage | str | None:
    """Return the image of a part, or its URL on the web; None when the part is no image.

    Args:
        part: a part.
        request: the request that it is of.
        api: the name of the API, for people.
        kept: fields beside the image that the adapter sends itself.

    Raises:
        PromptError: when more is said of the image, such as its ``detail``.
    """
    match part:
        case {"type": "image_url", "image_url": {"url": str(url), **told}, **beside}:
            more = [*told, *(name for name in beside if name not in kept)]
            if more:
                raise PromptError(
                    f"{request.row} has an image with {', '.join(map(repr, more))}, and {api} cannot be told that: "
                    "leave it out"
                )
            if not url.startswith("data:"):
                return url
            media_type, _, data = url.removeprefix("data:").partition(";base64,")
            return DataImage(media_type, data)
        case _:
            return None


def sent_image(found: DataImage | str, request: ChatRequest, api: str) -> DataImage:
    """Return an image of an API that takes no URLs.

    Raises:
        PromptError: when it is a URL.
    """
    if isinstance(found, str):
        raise PromptError(
            f"{request.row} has an image by its URL, and {api} takes none: give the path of a file, or a data URL"
        )
    return found


def take_limit(params: dict[str, Any]) -> Any:
    """Take the limit of the answer's tokens out of the params, by its names in chat completions; None for none."""
    found = [params.pop(name) for name in ("max_completion_tokens", "max_tokens") if name in params]
    return found[0] if found else None


def function_of(tool: Any) -> dict[str, Any] | None:
    """Return the function of a tool as chat completions have it; None: it is one of the API's own kind."""
    is_function = isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping)
    return dict(tool["function"]) if is_function else None


def forced_function(params: Mapping[str, Any]) -> str | None:
    """Return the name of the function that has to be called, as chat completions say it in the params; else None."""
    choice = params.get("tool_choice")
    function = choice.get("function") if isinstance(choice, Mapping) else None
    return function["name"] if isinstance(function, Mapping) else None
