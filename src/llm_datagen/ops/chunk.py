"""Long texts in pieces that a prompt can hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, new_column, refuse_value, value_of, whole_number, without_id

_ENDS = ("\n\n", "\n", ". ", "! ", "? ", "。", " ")
"""Where a text is cut, the best place first: after a paragraph, a line, a sentence, a word."""


class Chunk(DataOperator):
    """Makes a row of every piece of a text. The other columns are the same in each; an empty text gives no row.

    A piece ends after a paragraph if one ends in its second half, else after a line, a sentence or a word; else it is
    cut at `size`.

    Args:
        column: the column with the text; in each row it has one piece, without white space at its ends.
        size: characters that a piece has at most.
        overlap: characters at the end of a piece with which the next one begins again, rounded down to whole words;
            less than half of `size`.
    """

    def __init__(self, column: str = "text", *, size: int = 2000, overlap: int = 0) -> None:
        self.column = new_column("column", column)
        self.size = whole_number("size", size)
        self.overlap = whole_number("overlap", overlap, 0)
        if 2 * overlap >= size:
            raise ConfigError(f"overlap must be less than half of size ({size}), not {overlap}")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the rows.

        Raises:
            RowDataError: when the column is missing, or holds no text.
        """
        text = value_of(item, self.column)
        if not isinstance(text, str):
            refuse_value(self.column, text, "text")
        row = without_id(item)
        return [{**row, self.column: piece} for piece in self._pieces(text)]

    def _pieces(self, text: str) -> Iterator[str]:
        begin = 0
        while begin < len(text):
            end = self._end(text, begin)
            if piece := text[begin:end].strip():
                yield piece
            begin = end if end == len(text) else self._next(text, end)

    def _end(self, text: str, begin: int) -> int:
        last = begin + self.size
        if last >= len(text):
            return len(text)
        for ending in _ENDS:
            found = text.rfind(ending, begin + self.size // 2, last)
            if found >= 0:
                return found + len(ending)
        return last

    def _next(self, text: str, end: int) -> int:
        begin = end - self.overlap
        while begin < end and not text[begin - 1].isspace():
            begin += 1
        return begin
