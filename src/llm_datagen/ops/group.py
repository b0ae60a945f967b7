"""Rows of one key, together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from llm_datagen.config import check_flag
from llm_datagen.errors import ConfigError, FatalError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import (
    StateOperator,
    as_function,
    columns_if_any,
    new_column,
    row_of,
    value_of,
    without_id,
)
from llm_datagen.ops.keys import RowKey, digest_of, refuse_lost_columns
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.rows import Derived

Reduce = Callable[[list[dict[str, Any]]], Any]


class GroupBy(StateOperator):
    """Makes one row of all rows of a key: the columns of the key, and a list of the rows; or what a function returns.

    Groups are given at the end of the input, in the order of their first rows. State: all rows, on disk; in memory, one
    group at a time. With `sorted`, for input that comes in ascending order of the key, a group is given as soon as the
    next one begins, and only one is held.

    Args:
        by: the columns of the key.
        key: a function of the row that returns plain data, or its ``module:name``, in place of columns.
        into: the column with the list of rows.
        reduce: a function of the list of rows, or its ``module:name``, in place of that: it returns a row, several in a
            list, or None.
        collect: columns that become lists of the values of the rows, in place of the one column `into`.
        sorted: whether the input comes in ascending order of the key. A run whose input does not, fails.
    """

    def __init__(
        self,
        by: str | Sequence[str] | None = None,
        *,
        key: Callable[[Any], Any] | str | None = None,
        into: str = "rows",
        reduce: Reduce | str | None = None,
        collect: str | Sequence[str] = (),
        sorted: bool = False,
    ) -> None:
        self._key = RowKey(by, key, of_all=False)
        self.by = self._key.columns
        self.key = self._key.function
        self.into = new_column("into", into)
        self.reduce = as_function("reduce", reduce)
        self.collect = columns_if_any("collect", collect)
        if self.collect and self.reduce is not None:
            raise ConfigError("give a function (reduce=), or columns that become lists (collect=), not both")
        if twice := ", ".join(each for each in self.collect if each in self._key.names()):
            raise ConfigError(f"collect names what rows are grouped by, which has one value: {twice}")
        if self.reduce is None:
            refuse_lost_columns([*self._key.names(), *(self.collect or [self.into])])
        self.sorted = check_flag("sorted", sorted)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Remember the row; of sorted input, return the group before, if the row begins another.

        Raises:
            RowDataError: when the row lacks a column.
            FatalError: when input that was said to be sorted is not.
        """
        row, value, state = row_of(item), self._key.value(item), ctx.state
        for column in self.collect:
            value_of(row, column)
        if not self.sorted:
            digest = digest_of(value)
            group, rows = state.get(("key", digest), (None, 0))
            if group is None:
                group = state.get("groups", 0)
                state["groups"] = group + 1
            state["key", digest] = [group, rows + 1]
            state["row", group, rows] = row
            return None
        last, rows = state.get("last", (None, 0))
        made: list[Derived] = []
        if rows and digest_of(last) != digest_of(value):
            _check_order(last, value)
            made = self._rows_of([state[("row", number)] for number in range(rows)])
            for number in range(1, rows):
                del state["row", number]
            rows = 0
        state["last"] = [value, rows + 1]
        state["row", rows] = row
        return made[0] if len(made) == 1 else made or None

    def finish(self, ctx: INodeContext) -> Iterator[Derived]:
        """Yield the groups."""
        if self.sorted:
            _, rows = ctx.state.get("last", (None, 0))
            if rows:
                yield from self._rows_of([ctx.state["row", number] for number in range(rows)])
            return
        for _, found in groupby(ctx.state.items("row"), key=_group_of):
            yield from self._rows_of([row for _, row in found])

    def _rows_of(self, rows: list[dict[str, Any]]) -> list[Derived]:
        sources = [row[ID_FIELD] for row in rows]
        if self.collect:
            lists = {column: [row[column] for row in rows] for column in self.collect}
            return [Derived({**self._key.columns_of(rows[0]), **lists}, sources)]
        if self.reduce is None:
            within = [without_id(row) for row in rows]
            return [Derived({**self._key.columns_of(rows[0]), self.into: within}, sources)]
        made = self.reduce(rows)
        several = made if isinstance(made, list) else [made]
        return [Derived(without_id(row_of(row)), sources) for row in several if row is not None]


def _group_of(entry: tuple[Any, Any]) -> int:
    (_, group, _), _ = entry
    return int(group)


def _check_order(last: Any, value: Any) -> None:
    """Check that a key may follow another one.

    Raises:
        FatalError: when it is smaller, or they cannot be compared.
    """
    try:
        if last < value:
            return
        why = f"{value!r} comes after {last!r}"
    except TypeError:
        why = f"{value!r} and {last!r} have no order"
    raise FatalError(
        f"GroupBy(sorted=True): the input is not in ascending order of the key: {why}; sort it, or group without"
    )
