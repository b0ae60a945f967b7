"""How many rows there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import StateOperator, new_column
from llm_datagen.ops.keys import RowKey, refuse_lost_columns


class Count(StateOperator):
    """Gives, at the end of the input, the number of rows; or, with `by`, a row with it for each value of the columns.

    They come in the order of their first rows. State: a number per value, on disk. To keep the rows as well, let
    another node read the same input.

    Args:
        by: columns; None for all rows together.
        into: the column with the number.
    """

    def __init__(self, by: str | Sequence[str] | None = None, *, into: str = "count") -> None:
        self._key = None if by is None else RowKey(by)
        self.by = None if self._key is None else self._key.columns
        self.into = new_column("into", into)
        refuse_lost_columns([*(self.by or ()), self.into])

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Count the row.

        Raises:
            RowDataError: when a column is missing.
        """
        state = ctx.state
        if self._key is None:
            state["count"] = state.get("count", 0) + 1
            return
        digest = self._key.digest(item)
        place = state.get(("key", digest))
        if place is None:
            place = state.get("values", 0)
            state["values"] = place + 1
            state["key", digest] = place
            state["value", place] = self._key.columns_of(item)
        state["count", place] = state.get(("count", place), 0) + 1

    def finish(self, ctx: INodeContext) -> Iterator[dict[str, Any]]:
        """Yield the numbers."""
        if self._key is None:
            yield {self.into: ctx.state.get("count", 0)}
            return
        for key, columns in ctx.state.items("value"):
            assert isinstance(key, tuple)
            yield {**columns, self.into: ctx.state["count", key[1]]}
