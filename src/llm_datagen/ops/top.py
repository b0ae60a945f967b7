"""The k best rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.config import check_flag
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import StateOperator, is_nan, new_column, refuse_value, row_of, value_of, whole_number
from llm_datagen.ops.best import BestRows
from llm_datagen.streams.rows import Derived


class TopK(StateOperator):
    """Gives, at the end of the input, the k rows with the largest value of a column, the largest first.

    Of equal values, the earlier row comes first. State: up to twice as many rows, at least 1,000 more, on disk.

    Args:
        k: how many.
        by: the column, with numbers or with texts (such as dates).
        largest: False for the smallest values, the smallest first.
    """

    def __init__(self, k: int, *, by: str, largest: bool = True) -> None:
        self.k = whole_number("k", k)
        self.by = new_column("by", by)
        self.largest = check_flag("largest", largest)
        self._best = BestRows(k, largest=largest)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Remember the row, if it may be one of the best.

        Raises:
            RowDataError: when the column is missing, or holds no number and no text.
        """
        self._best.add(ctx.state, score_of(item, self.by), row_of(item))

    def finish(self, ctx: INodeContext) -> Iterator[Derived]:
        """Yield the rows."""
        return self._best.give(ctx.state)


def score_of(item: Any, column: str) -> int | float | str:
    """Return what a row is ordered by.

    Raises:
        RowDataError: when the column is missing, or holds no number and no text.
    """
    score = value_of(item, column)
    if isinstance(score, bool) or not isinstance(score, int | float | str) or is_nan(score):
        refuse_value(column, score, "a number or a text")
    return score
