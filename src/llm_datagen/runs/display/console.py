"""The console of rich that all displays write to. It escapes control characters in foreign text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from llm_datagen.errors.escape import escape

FREE_WIDTH = 2_000
"""Columns of a line without a terminal and without COLUMNS: a file or a script takes any length."""


class SafeConsole(Console):
    """A console that escapes all texts: ids, names, errors, rows. Control codes are rich's own.

    Args:
        options: those of `rich.console.Console`. Nothing is highlighted, and texts have no markup or emoji codes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})
        if not self.is_terminal and not os.environ.get("COLUMNS") and "width" not in options:
            self.width = FREE_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable`."""
        for segment in super().render(renderable, options):
            yield (
                segment
                if segment.control or segment.text.isprintable()
                else segment._replace(text=escape(segment.text))
            )
