"""Images in messages: by URL, or by the path of a file, which is sent along."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import PromptError
from llm_datagen.operators.fingerprint.code import digest

Message = Mapping[str, Any]
"""One message, as chat completions have it: ``role``, and ``content``: a text or a list of parts."""

MAX_IMAGE_BYTES = 20 * 1024 * 1024
"""The largest file that is sent."""

_SCHEME = re.compile(r"(https?)(?=://)|(data)(?=:)", re.IGNORECASE)
"""How a URL begins that is sent as it is; its scheme is written small, as some endpoints compare it."""


def image_part(place: str) -> dict[str, Any]:
    """Return the part of a message that shows the image at a URL, or at the path of a file."""
    return {"type": "image_url", "image_url": {"url": place}}


def checked_image_root(root: str | None) -> Path | None:
    """Return the absolute path of the folder that images may come from.

    Raises:
        ConfigError: when it is no folder.
    """
    if root is None:
        return None
    if not isinstance(root, str) or not root:
        raise ConfigError(f'image_root must be the path of a folder ("/" allows every file), not {root!r}')
    try:
        folder = Path(root).resolve(strict=True)
        is_folder = folder.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"image_root {root!r} cannot be used: {_reason(error)}") from error
    if not is_folder:
        raise ConfigError(f"image_root {root!r} is not a folder")
    return folder


def images_of(messages: Sequence[Message]) -> list[str]:
    """Return the URLs and paths of the images in messages."""
    contents = (message.get("content") for message in messages)
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return [place for part in parts if (place := _place_of(part)) is not None]


def digests_of_files(places: Sequence[str], root: Path | None) -> dict[str, str | None]:
    """Return a digest of each image that is the path of a file; None for one that cannot be read now."""
    found: dict[str, str | None] = {}
    for place in places:
        if _SCHEME.match(place) or root is None:
            continue
        try:
            found[place] = digest(_read(root, place, place))
        except (PromptError, OSError, ValueError, RuntimeError):
            found[place] = None
    return found


async def with_images(messages: list[Message], label: str, root: Path | None) -> list[Message]:
    """Return the messages with every image that is the path of a file replaced by the file, as a data URL.

    Args:
        messages: whose parts of the type ``image_url`` hold URLs and paths.
        label: how errors name the row.
        root: the folder, absolute and without symbolic links, in which the files must lie; None: no file is read.

    Raises:
        PromptError: naming the row and the path, when a file is elsewhere, missing, too large, or no image.
    """
    if not any(isinstance(message.get("content"), list) for message in messages):
        return messages
    return await asyncio.to_thread(lambda: [_with_images(message, label, root) for message in messages])


def _with_images(message: Message, label: str, root: Path | None) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    return {**message, "content": [_with_image(part, label, root) for part in content]}


def _place_of(part: Any) -> str | None:
    match part:
        case {"type": "image_url", "image_url": {"url": str(place)}}:
            return place
        case _:
            return None


def _with_image(part: Any, label: str, root: Path | None) -> Any:
    place = _place_of(part)
    if place is None:
        return part
    scheme = _SCHEME.match(place)
    url = place if scheme is None else scheme[0].lower() + place[scheme.end() :]
    return {**part, "image_url": {**part["image_url"], "url": url if scheme else _data_url(place, label, root)}}


def _data_url(place: str, label: str, root: Path | None) -> str:
    name = f"the image {place!r} of {label}"
    if "://" in place or place[:5].lower() == "file:":
        raise PromptError(f"{name} is neither an http(s) URL, nor a data URL, nor the path of a file")
    if root is None:
        raise PromptError(
            f"{name} is the path of a file, and rows may name none: set image_root to the folder that the images are in"
        )
    try:
        data = _read(root, place, name)
    except (OSError, ValueError, RuntimeError) as error:
        raise PromptError(f"{name} cannot be read: {_reason(error)}") from error
    return f"data:{_media_type(data, name)};base64,{base64.b64encode(data).decode()}"


def _read(root: Path, place: str, name: str) -> bytes:
    path = (root / place).resolve(strict=True)  # where it really is, whatever links and dots say
    if not path.is_relative_to(root):
        raise PromptError(f"{name} does not lie in image_root, {str(root)!r}: rows may name no file elsewhere")
    # A link that has been put in its place since is not followed, and a pipe is not waited for.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise PromptError(f"{name} is not a file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise PromptError(f"{name} has {status.st_size} bytes: {MAX_IMAGE_BYTES} may be sent; make it smaller")
        return file.read(MAX_IMAGE_BYTES + 1)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


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
