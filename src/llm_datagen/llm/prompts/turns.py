"""The parts that a prompt is made of: a message of templates, or the messages that a row holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.prompts.images import Message, image_part
from llm_datagen.llm.prompts.template import Prompt, fields_of, row_label
from llm_datagen.llm.prompts.values import Null

FIRST_ROLES = ("system", "developer")
"""Who speaks before the solved examples."""
_ROLES = (*FIRST_ROLES, "user", "assistant")
_ROLES_OF_ROWS = (*_ROLES, "tool")
_TEMPLATE = re.compile(r"\{[{%#]")


class Turn(Protocol):
    """A part of a prompt."""

    @property
    def role(self) -> str:
        """Who speaks; empty when the row says it."""

    @property
    def fixed_images(self) -> Sequence[str]:
        """The URLs and paths of images that are the same for every row."""

    def messages(self, item: Any) -> list[Message]:
        """Return what `item` makes of it; images are named, not yet read.

        Raises:
            PromptError: naming the row.
        """


def turns_of(
    prompt: str | Sequence[Mapping[str, Any]],
    *,
    system: str | None = None,
    images: Sequence[str] = (),
    null: Null = "empty",
) -> list[Turn]:
    """Return the turns of a prompt.

    Raises:
        ConfigError: naming what is wrong with it.
    """
    turns: list[Turn]
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        turns = [TemplateMessage("user", prompt, images, label="prompt", null=null)]
    elif images:
        raise ConfigError("images go with a prompt that is one template: here, give them to a message, as its 'images'")
    elif not prompt:
        raise ConfigError("prompt has no message: give a template, or a list of messages")
    else:
        turns = [_turn(message, number, null) for number, message in enumerate(prompt, start=1)]
    if system is not None:
        if any(turn.role in FIRST_ROLES for turn in turns):
            raise ConfigError("a system message is in prompt and in system: give one of the two")
        turns.insert(0, TemplateMessage("system", system, label="system message", null=null))
    return turns


def _turn(message: Any, number: int, null: Null) -> Turn:
    match message:
        case {"placeholder": str(field), **others} if field and not others:
            return Placeholder(field)
        case {"role": role, "content": content, **others} if role in _ROLES and not set(others) - {"images"}:
            images: Any = others.get("images", ())
            return TemplateMessage(role, content, images, label=f"prompt's message {number}", null=null)
        case _:
            raise ConfigError(
                f"message {number} of prompt must be a dict of 'role' ({', '.join(_ROLES)}) and 'content', perhaps "
                f"'images', or of 'placeholder', the field of the row that holds messages; not {message!r}"
            )


class TemplateMessage:
    """A message of templates.

    Args:
        role: who speaks.
        content: the template of its text.
        images: templates of its images: each line that comes out is the URL or the path of one.
        label: what it is called in errors.
        null: what is written for a null of the row.

    Attributes:
        fixed_images: the images that are the same for every row.
        beginning: the text that it begins with, whatever the row.
        is_fixed: whether that is all of the message.

    Raises:
        ConfigError: when a template cannot be used.
    """

    def __init__(
        self, role: str, content: str, images: Sequence[str] = (), *, label: str, null: Null = "empty"
    ) -> None:
        if isinstance(images, str) or not isinstance(images, Sequence):
            raise ConfigError(f"images of {label} must be a list of templates, not {images!r}")
        self.role = role
        self._text = Prompt(content, label=label, null=null)
        lines = [line.strip() for each in images if not _TEMPLATE.search(each) for line in each.splitlines()]
        self.fixed_images: Sequence[str] = [line for line in lines if line]
        self.beginning, self.is_fixed = self._text.beginning, self._text.is_fixed and not images
        self._images = [Prompt(each, label=f"image of {label}", may_be_blank=True, null=null) for each in images]

    def messages(self, item: Any) -> list[Message]:
        """Return the message."""
        text = self._text.render(item)
        if not self._images:
            return [{"role": self.role, "content": text}]
        lines = [line.strip() for image in self._images for line in image.render(item).splitlines()]
        parts = [image_part(line) for line in lines if line]
        return [{"role": self.role, "content": [{"type": "text", "text": text}, *parts]}]


class Placeholder:
    """The messages that a row has in a field. They are data: sent as they are, not rendered.

    Args:
        field: the field's name.
    """

    role = ""
    fixed_images: Sequence[str] = ()

    def __init__(self, field: str) -> None:
        self._field = field

    def messages(self, item: Any) -> list[Message]:
        """Return the messages."""
        fields = fields_of(item)
        if self._field not in fields:
            known = ", ".join(map(str, fields)) or "no fields"
            raise PromptError(f"the prompt of {row_label(item)} lacks its field {self._field!r}; the row has: {known}")
        found = fields[self._field]
        if not isinstance(found, list):
            raise PromptError(f"{self._field} of {row_label(item)} must be a list of messages, not {_kind(found)}")
        for number, message in enumerate(found, start=1):
            _check(message, f"message {number} in {self._field} of {row_label(item)}")
        return list(found)


def _check(message: Any, where: str) -> None:
    if not isinstance(message, Mapping):
        raise PromptError(f"{where} must be an object of 'role' and 'content', not {_kind(message)}")
    if message.get("role") not in _ROLES_OF_ROWS:
        raise PromptError(f"{where} must have one of the roles {', '.join(_ROLES_OF_ROWS)}")
    if not isinstance(message.get("content"), str | list) and "tool_calls" not in message:
        raise PromptError(f"{where} must have a content: a text, or a list of parts")


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
