"""The best rows of a stream, held in the state until its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llm_datagen.errors import RowDataError
from llm_datagen.operators import IState
from llm_datagen.ops.base import without_id
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.rows import Derived

_LEAST_SPARE = 1000
"""Rows beyond those that are wanted, which are kept for a while: looking for the worst one each time costs more."""


class BestRows:
    """The k best rows, by a score.

    A row that is not better than the k-th best one of a while ago is forgotten at once. The others are kept, and the
    worst of them forgotten when there are twice as many as wanted. Of equal scores, the earlier row is better.

    Args:
        k: how many.
        largest: whether a larger score is better.
    """

    def __init__(self, k: int, *, largest: bool) -> None:
        self._k = k
        self._largest = largest
        self._most = max(2 * k, k + _LEAST_SPARE)

    def add(self, state: IState, score: Any, row: dict[str, Any]) -> None:
        """Take a row.

        Raises:
            RowDataError: when its score is of another kind than those before.
        """
        made, rows, kind, cut = state.get("best", (0, 0, None, None))
        is_text = isinstance(score, str)
        if kind is not None and is_text != kind:
            raise RowDataError(f"the score is {score!r}, and those before are {'texts' if kind else 'numbers'}")
        if cut is not None and not (score > cut if self._largest else score < cut):
            return
        state["row", made] = [score, row]
        made, rows = made + 1, rows + 1
        if rows >= self._most:
            kept = self._order([(score, key) for key, (score, _) in state.items("row")])
            for _, key in kept[self._k :]:
                del state[key]
            rows, cut = self._k, kept[self._k - 1][0]
        state["best"] = [made, rows, is_text, cut]

    def _order(self, rows: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """Return scores and keys, the best first; they are in the order of the rows."""
        return sorted(rows, key=lambda row: row[0], reverse=self._largest)

    def give(self, state: IState, *, in_order: bool = False) -> Iterator[Derived]:
        """Yield the best rows.

        Args:
            state: where they are.
            in_order: in the order of the input; else the best first.
        """
        kept = self._order([(score, key) for key, (score, _) in state.items("row")])[: self._k]
        for key in sorted(key for _, key in kept) if in_order else [key for _, key in kept]:
            yield derived(state[key][1])


def derived(row: dict[str, Any]) -> Derived:
    """Return a row as one that stands for itself."""
    return Derived(without_id(row), [row[ID_FIELD]])
