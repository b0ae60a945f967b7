"""The first rows."""

from __future__ import annotations

from typing import Any

from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import StateOperator, one_row, whole_number
from llm_datagen.streams.rows import Rejected


class Limit(StateOperator):
    """Keeps the first rows, exactly so many, and filters the others.

    State: one number. The input is read to its end.

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self.n = whole_number("n", n)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, if it is one of them; else why not.

        Raises:
            RowDataError: when it is a bare list or null.
        """
        one_row(item)
        kept = ctx.state.get("kept", 0)
        if kept >= self.n:
            return Rejected(f"beyond the first {self.n}")
        ctx.state["kept"] = kept + 1
        return item
