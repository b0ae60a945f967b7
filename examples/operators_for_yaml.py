"""The operators of `pipeline.yaml`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llm_datagen import BaseOperator, INodeContext

Row = dict[str, Any]


def tidy(row: Row) -> Row | None:
    """Put the white space in order; filter what is empty."""
    text = " ".join(row["text"].split())
    return {**row, "text": text} if text else None


def sentences(row: Row, column: str) -> list[Row]:
    """Make a row of every sentence."""
    return [{column: part} for part in re.split(r"(?<=[.!?]) ", row["text"])]


class Mood(BaseOperator):
    """Says whether a sentence is glad or sad.

    Args:
        glad: words that make it glad.
        sad: words that make it sad.
    """

    def __init__(self, glad: Sequence[str], sad: Sequence[str]) -> None:
        self.moods = {"glad": set(glad), "sad": set(sad)}

    def process_item(self, item: Row, ctx: INodeContext) -> Row:
        """Return the row with its ``mood``."""
        words = set(re.findall(r"\w+", item["sentence"].lower()))
        mood = next((mood for mood, signs in self.moods.items() if words & signs), "neither")
        return {**item, "mood": mood}
