"""Rows that a later step has accepted, shown to an earlier one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, cast

from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.operators.protocols import IFeedbackContext, INodeContext
from llm_datagen.ops.base import (
    BOOKKEEPING,
    DataOperator,
    a_list,
    as_columns,
    as_seed,
    id_of,
    new_column,
    refuse_missing,
    whole_number,
    with_columns,
)
from llm_datagen.streams.chance import number_of

_NO_SEEDS: tuple[Mapping[str, Any], ...] = ()


class Feedback(DataOperator):
    """Adds a column with some of the rows that a node, as a rule a later one, has written so far.

    They are drawn by chance among those that are committed when the row comes, and are part of the row from then on: so
    a row that is done keeps what was drawn for it, whatever happens to the process, and a row that a crash takes back
    draws again from what is there then. How far the accepted rows are behind is bounded by `max_lead`. The node keeps
    16 bytes of memory per row that it draws from. The nodes have to run at once (``streaming=True``). In a preview,
    there are only the seeds. When the node whose rows are drawn is done again after an edit, so is this one, with all
    behind it: no row shows what is not accepted any more.

    Args:
        of: the id of the node whose rows are drawn, or the name of its operator; None: the last one.
        k: how many, at most; in the beginning there are fewer.
        column: the new column, a list of rows.
        columns: the columns of these; None: all but this one, and those that say where a row comes from.
        seeds: rows that are drawn from, too, as if they had been accepted first.
        last: draw from so many rows only, the newest; None: from all, and the seeds.
        seed: another one draws others.

    Raises:
        ConfigError: when an argument is wrong.
    """

    def __init__(
        self,
        of: str | None = None,
        *,
        k: int = 3,
        column: str = "examples",
        columns: str | Sequence[str] | None = None,
        seeds: Sequence[Mapping[str, Any]] = _NO_SEEDS,
        last: int | None = None,
        seed: int | str = 0,
    ) -> None:
        if of is not None and (not isinstance(of, str) or not of):
            raise ConfigError(f"of must be the id of a node, or the name of its operator, not {of!r}")
        self.of = of
        self.k = whole_number("k", k)
        self.column = new_column("column", column)
        self.columns = columns
        self.last = None if last is None else whole_number("last", last)
        self.seed = as_seed(seed)
        self.seeds = a_list("seeds", seeds, "a list of rows")
        if not all(isinstance(row, Mapping) for row in self.seeds):
            raise ConfigError("seeds must be a list of rows")
        self._names = None if columns is None else as_columns("columns", columns)

    @property
    def feedback_of(self) -> str:
        """The node whose rows the engine hands over; an empty text: the last one."""
        return self.of or ""

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with the column.

        Raises:
            RowDataError: when it has it already, or a row that was drawn lacks a column.
        """
        accepted = cast(IFeedbackContext, ctx).feedback
        size = len(self.seeds) + len(accepted)
        first = 0 if self.last is None else max(0, size - self.last)
        dice = random.Random(number_of("feedback", self.seed, id_of(item)))
        drawn = dice.sample(range(first, size), min(self.k, size - first))
        rows = [
            self.seeds[number] if number < len(self.seeds) else accepted[number - len(self.seeds)] for number in drawn
        ]
        return with_columns(item, {self.column: [self._shown(row) for row in rows]})

    def _shown(self, row: Any) -> dict[str, Any]:
        if not isinstance(row, Mapping):
            raise RowDataError("what was accepted is a bare value, and has no columns")
        if self._names is None:
            return {name: row[name] for name in row if name not in BOOKKEEPING and name != self.column}
        for name in self._names:
            if name not in row:
                refuse_missing(row, name)
        return {name: row[name] for name in self._names}
