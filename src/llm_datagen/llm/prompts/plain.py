"""Templates that are nothing but text and names of fields, as most are: for most rows, Jinja2 need not be asked.

``Translate: {{ sentence }}`` is its texts and the field's text, joined. Whatever is not as plain, in the template or in
a row (a field that is missing, null, or no text and no whole number; a prompt that is blank or gigantic) is left to
Jinja2, which also makes the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import nodes

from llm_datagen.llm.prompts.bounds import MAX_PROMPT_CHARS

_OWN_NAMES = frozenset({"row", "self", "loop", "caller", "varargs", "kwargs", "super"})
"""Names that mean something else than a field of the row."""

_LARGE = 10**18
"""A larger number may have more digits than Python writes."""


class PlainParts(NamedTuple):
    """The parts of a plain template.

    Attributes:
        texts: its texts, and None in the place of each field.
        fields: the places, and the fields that stand there.
    """

    texts: Sequence[str | None]
    fields: Sequence[tuple[int, str]]


def plain_parts(tree: nodes.Template) -> PlainParts | None:
    """Return the parts of a template; None when there is more in it than texts and names."""
    texts: list[str | None] = []
    fields: list[tuple[int, str]] = []
    for node in tree.body:
        if not isinstance(node, nodes.Output):
            return None
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                texts.append(part.data)
            elif isinstance(part, nodes.Name) and part.name not in _OWN_NAMES:
                fields.append((len(texts), part.name))
                texts.append(None)
            else:
                return None
    return PlainParts(texts, fields)


def plain_text(parts: PlainParts, fields: Mapping[str, Any]) -> str | None:
    """Return the text of a row; None when Jinja2 has to say what it is."""
    texts = list(parts.texts)
    for place, name in parts.fields:
        value = fields.get(name)
        if value.__class__ is str:
            texts[place] = value
        elif value.__class__ is int and -_LARGE < value < _LARGE:
            texts[place] = str(value)
        else:
            return None
    text = "".join(texts)  # type: ignore[arg-type]  # each place is filled
    return None if len(text) > MAX_PROMPT_CHARS or not text or text.isspace() else text
