"""The best rows of each group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm_datagen.config import check_flag
from llm_datagen.errors import RowDataError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import StateOperator, new_column, row_of, whole_number
from llm_datagen.ops.best import derived
from llm_datagen.ops.keys import RowKey
from llm_datagen.ops.top import score_of
from llm_datagen.streams.rows import Derived


class Best(StateOperator):
    """Gives, at the end of the input, the n best rows of each group, such as the best answers to each prompt.

    Groups come in the order of their first rows; within one, the best first, and of equal ones the earlier. State: the
    n best rows per group, on disk. They are written anew when one of them changes, so n should be small; for one group,
    use TopK.

    Args:
        n: how many per group.
        by: the column with the score, numbers or texts.
        of: the columns that a group has in common.
        key: a function of the row that returns plain data, or its ``module:name``, in place of `of`.
        largest: False if a smaller score is better.
    """

    def __init__(
        self,
        n: int = 1,
        *,
        by: str,
        of: str | Sequence[str] | None = None,
        key: Callable[[Any], Any] | str | None = None,
        largest: bool = True,
    ) -> None:
        self.n = whole_number("n", n)
        self.by = new_column("by", by)
        self._key = RowKey(of, key, of_all=False, name="of")
        self.of = self._key.columns
        self.key = self._key.function
        self.largest = check_flag("largest", largest)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Remember the row, if it is one of the best of its group so far.

        Raises:
            RowDataError: when a column is missing, or the score is no number and no text, or other than those before.
        """
        score, digest, state = score_of(item, self.by), self._key.digest(item), ctx.state
        group = state.get(("key", digest))
        if group is None:
            group = state.get("groups", 0)
            state["groups"] = group + 1
            state["key", digest] = group
            state["group", group] = [[score, row_of(item)]]
            return
        best = state["group", group]
        if isinstance(best[0][0], str) != isinstance(score, str):
            raise RowDataError(f"the score is {score!r}, and the best of its group has {best[0][0]!r}")
        place = sum(not self._is_better(score, other) for other, _ in best)
        if place < self.n:
            best.insert(place, [score, row_of(item)])
            state["group", group] = best[: self.n]

    def _is_better(self, score: Any, other: Any) -> bool:
        return bool(score > other if self.largest else score < other)

    def finish(self, ctx: INodeContext) -> Iterator[Derived]:
        """Yield the rows."""
        for _, best in ctx.state.items("group"):
            for _, row in best:
                yield derived(row)
