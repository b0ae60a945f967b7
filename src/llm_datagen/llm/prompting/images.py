"""Images in messages: by URL, or by the path of a file, which is sent along."""

from __future__ import annotations

import asyncio
import base64
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_datagen.llm.errors import PromptError

Message = Mapping[str, Any]
"""One message, as chat completions have it: ``role``, and ``content``: a text or a list of parts."""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""The largest file that is sent."""

_SENT_AS_THEY_ARE = ("http://", "https://", "data:")


def image_part(place: str) -> dict[str, Any]:
    """Return the part of a message that shows the image at a URL, or at the path of a file."""
    return {"type": "image_url", "image_url": {"url": place}}


async def with_images(messages: list[Message], label: str) -> list[Message]:
    """Return the messages with every image that is the path of a file replaced by the file, as a data URL.

    Args:
        messages: whose parts of the type ``image_url`` hold URLs and paths.
        label: how errors name the row.

    Raises:
        PromptError: naming the row and the path, when a file is missing, too large, or no image.
    """
    if not any(isinstance(message.get("content"), list) for message in messages):
        return messages
    return await asyncio.to_thread(lambda: [_with_images(message, label) for message in messages])


def _with_images(message: Message, label: str) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_with_image(part, label) for part in content]}


def _with_image(part: Any, label: str) -> Any:
    match part:
        case {"type": "image_url", "image_url": {"url": str(place)}} if not place.startswith(_SENT_AS_THEY_ARE):
            return {**part, "image_url": {**part["image_url"], "url": _data_url(place, label)}}
        case _:
            return part


def _data_url(place: str, label: str) -> str:
    name = f"the image {place!r} of {label}"
    if "://" in place:
        raise PromptError(f"{name} is neither an http(s) URL nor the path of a file")
    try:
        status = Path(place).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise PromptError(f"{name} is not a file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise PromptError(f"{name} has {status.st_size} bytes: {MAX_IMAGE_BYTES} may be sent; make it smaller")
        data = Path(place).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PromptError(f"{name} cannot be read: {reason}") from error
    return f"data:{_media_type(data, name)};base64,{base64.b64encode(data).decode()}"


def _media_type(data: bytes, name: str) -> str:
    """Return the type that the bytes themselves say: the file's name may say another."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    raise PromptError(f"{name} is none of PNG, JPEG, GIF and WebP")
