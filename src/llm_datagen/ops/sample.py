"""A part of the rows, by chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, as_seed, id_of, row_of, whole_number
from llm_datagen.ops.best import BestRows
from llm_datagen.streams.chance import fraction_of, number_of
from llm_datagen.streams.rows import Derived, Rejected

_NOT_DRAWN = Rejected("not in the sample")


class Sample(DataOperator):
    """Keeps a share of the rows, on average; or gives, at the end of the input, exactly n of them, or all there are.

    Which, follows from the seed and the row's id. With `share` it keeps no state. With `n`, it has up to twice as many
    rows, at least 1,000 more, in its state on disk, and gives them in the order of the input.

    Args:
        share: from 0 to 1.
        n: how many, in place of a share.
        seed: another one keeps other rows. Two samples in one line need two seeds, else the second keeps
            what the first has kept.
    """

    def __init__(self, *, share: float | None = None, n: int | None = None, seed: int | str = 0) -> None:
        if (share is None) == (n is None):
            raise ConfigError("Sample needs share= (a part of the rows), or n= (a number of rows), one of the two")
        if share is not None and (isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1):
            raise ConfigError(f"share must be a number from 0 to 1, not {share!r}")
        self.share = share
        self.n = None if n is None else whole_number("n", n)
        self.seed = as_seed(seed)
        if self.n is not None:
            self.keeps_state = True
            self._best = BestRows(self.n, largest=False)
            vars(self)["finish"] = self._finish  # a sample by its share has no end to wait for

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, if it is in the sample; with `n`, remember it, if it may be."""
        if self.share is not None:
            return item if fraction_of("sample", self.seed, id_of(item)) < self.share else _NOT_DRAWN
        self._best.add(ctx.state, number_of("sample", self.seed, id_of(item)), row_of(item))
        return None

    def _finish(self, ctx: INodeContext) -> Iterator[Derived]:
        return self._best.give(ctx.state, in_order=True)
