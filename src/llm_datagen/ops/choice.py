"""Operators that leave something to chance: a category, a part, a share. The same row gets the same in every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, as_seed, column_or_none, id_of, new_column, value_of, with_columns
from llm_datagen.ops.keys import with_whole_numbers
from llm_datagen.ops.weighted import Weighted
from llm_datagen.streams.chance import fraction_of


class Choose(DataOperator):
    """Adds a column with one of several values, by their weights; which, follows from the seed and the row's id.

    Args:
        column: the new column.
        values: ``{"easy": 2, "hard": 1}``, or for other values than text a list of ``[value, weight]``. Weights are
            relative to their sum.
        seed: another one makes other choices.
    """

    def __init__(
        self, column: str, values: Mapping[str, float] | Sequence[Sequence[Any]], *, seed: int | str = 0
    ) -> None:
        self.column = new_column("column", column)
        self.values = values
        self.seed = as_seed(seed)
        self._weighted = Weighted("values", values)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with the column.

        Raises:
            RowDataError: when the row has it already.
        """
        chosen = self._weighted.at(fraction_of("choose", self.seed, self.column, id_of(item)))
        return with_columns(item, {self.column: chosen})


class Split(DataOperator):
    """Adds a column with the part that a row belongs to, such as "train" or "test".

    The part follows from the row's id; or, with `by`, from a value, so that rows of one value are in one part.
    Parts have their shares on average, not exactly.

    Args:
        parts: the share of each part; the sum is 1.
        by: a column; None for the id.
        column: the new column.
        seed: another one splits otherwise.
    """

    def __init__(
        self, parts: Mapping[str, float], *, by: str | None = None, column: str = "split", seed: int | str = 0
    ) -> None:
        self.parts = parts
        self.by = column_or_none("by", by)
        self.column = new_column("column", column)
        self.seed = as_seed(seed)
        self._weighted = Weighted("parts", parts)
        total = sum(self._weighted.weights)
        if not isinstance(parts, Mapping) or abs(total - 1) > 1e-6:
            raise ConfigError(f"parts must be {{name: share, …}} with shares whose sum is 1; it is {total:g}")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with the column.

        Raises:
            RowDataError: when the row has it already, or lacks the column `by`.
        """
        value = id_of(item) if self.by is None else with_whole_numbers(value_of(item, self.by))
        return with_columns(item, {self.column: self._weighted.at(fraction_of("split", self.seed, value))})
