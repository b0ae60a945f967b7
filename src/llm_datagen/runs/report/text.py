"""Foreign text in a report: escaped, and as long as there is room for."""

from __future__ import annotations

import html
from typing import Any

from llm_datagen.errors.escape import escape, escape_line
from llm_datagen.runs.words import cut
from llm_datagen.streams.formats.json_values import shown


def html_text(text: Any) -> str:
    """Return text for HTML, on one line."""
    return html.escape(escape_line(str(text)))


def html_block(text: Any) -> str:
    """Return text for HTML, with its line breaks."""
    return html.escape(escape(str(text)))


svg_text = html_text
"""Returns text for SVG."""


def middle(text: str, chars: int) -> str:
    """Return text of at most so many characters: what is left out stood in its middle."""
    if len(text) <= chars:
        return text
    begin = chars // 2
    return f"{text[:begin]}…{text[len(text) - (chars - 1 - begin) :]}"


def as_json(value: Any, chars: int) -> str:
    """Return a value as JSON in one line, of at most about so many characters."""
    return cut(value if isinstance(value, str) else shown(value), chars)


def moment(text: str | None) -> str:
    """Return a time of a run state, to the second."""
    return f"{text[:19].replace('T', ' ')} UTC" if text else "never"
