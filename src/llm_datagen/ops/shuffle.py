"""Rows in an order by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import StateOperator, as_seed, id_of, key_parts, row_of
from llm_datagen.ops.best import derived
from llm_datagen.streams.chance import number_of
from llm_datagen.streams.rows import Derived

_HALF = 2**63


class Shuffle(StateOperator):
    """Gives all rows at the end of the input, in an order that follows from the seed and the rows' ids.

    State: all rows, on disk. They need not fit into memory.

    Args:
        seed: another one gives another order.
    """

    def __init__(self, *, seed: int | str = 0) -> None:
        self.seed = as_seed(seed)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Remember the row."""
        row_id = id_of(item)
        ctx.state["row", number_of("shuffle", self.seed, row_id) - _HALF, *key_parts(row_id)] = row_of(item)

    def finish(self, ctx: INodeContext) -> Iterator[Derived]:
        """Yield the rows."""
        for _, row in ctx.state.items("row"):
            yield derived(row)
