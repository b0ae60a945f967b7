"""Exact duplicates: the first row of each key stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import StateOperator, id_of, new_column, one_row, with_columns
from llm_datagen.ops.keys import RowKey
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.rows import Rejected

_DUPLICATE = Rejected("a duplicate")


class Dedupe(StateOperator):
    """Keeps the first row of each key, and filters the others; or marks them.

    State: a key of 20 characters and an id per kept row, on disk.

    Args:
        by: the columns that rows are compared by; None for all, without those that only say where a row comes from.
        key: a function of the row that returns plain data, or its ``module:name``, in place of columns.
        normalize: how texts are compared: "lower", small letters; "whitespace", any white space as one blank.
        mark: a new column; then duplicates are kept, with the id of their original in it, and originals have null.
    """

    def __init__(
        self,
        by: str | Sequence[str] | None = None,
        *,
        key: Callable[[Any], Any] | str | None = None,
        normalize: Sequence[str] = (),
        mark: str | None = None,
    ) -> None:
        self._key = RowKey(by, key, normalize)
        self.by = self._key.columns
        self.key = self._key.function
        self.normalize = list(normalize)
        self.mark = None if mark is None else new_column("mark", mark)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, if it is the first of its key.

        Raises:
            RowDataError: when a column is missing, or the row is a bare list or null.
        """
        digest, state = self._key.digest(one_row(item)), ctx.state
        if self.mark is None:
            if digest in state:
                return _DUPLICATE
            state[digest] = item[ID_FIELD] if isinstance(item, dict) else None
            return item
        original = state.get(digest)
        if original is None:
            state[digest] = id_of(item)
        return with_columns(item, {self.mark: original})
