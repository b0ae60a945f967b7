"""What adapters need to put a request of chat completions in the words of another API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.types import ChatRequest

_ROLES = ("system", "developer", "user", "assistant")


class DataImage(NamedTuple):
    """An image that is sent along.

    Attributes:
        media_type: such as ``image/png``.
        data: the file in base64.
    """

    media_type: str
    data: str


def system_parts(request: ChatRequest) -> list[Any]:
    """Return the parts of all system messages."""
    return [part for message in request.messages if _is_system(message) for part in parts_of(message["content"])]


def turns(request: ChatRequest, api: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the role, ``user`` or ``assistant``, and the parts of each message that is not the system's.

    Args:
        request: the request.
        api: the name of the API, for the error.

    Raises:
        PromptError: when a message is a call of a tool, or its result.
    """
    refuse_tool_messages(request, api)
    for message in request.messages:
        if not _is_system(message):
            yield message["role"], parts_of(message["content"])


def refuse_tool_messages(request: ChatRequest, api: str) -> None:
    """Refuse messages that the adapters do not put in other words: calls of tools, and their results.

    Raises:
        PromptError: when a message is one.
    """
    for message in request.messages:
        if message["role"] not in _ROLES or message.get("content") is None:
            raise PromptError(
                f"{request.row} has a message with a tool's call or result: the {api} adapter cannot send it"
            )


def parts_of(content: str | list[Any]) -> list[Any]:
    """Return a content as a list of parts."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def text_in(part: Any) -> str | None:
    """Return the text of a part that is one; else None."""
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case _:
            return None


def image_in(part: Any) -> DataImage | str | None:
    """Return the image of a part, or its URL on the web; None when the part is no image."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)}}:
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


def _is_system(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer")
