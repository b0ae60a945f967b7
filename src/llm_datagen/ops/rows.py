"""Operators on the columns of a row: keep it or not, and which columns it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, as_columns, new_column, refuse_missing, row_of
from llm_datagen.ops.expression import compile_condition
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.rows import Rejected

Missing = Literal["fail", "ignore"]
"""What becomes of a row that lacks a column: it fails, or that does not matter."""


class Keep(DataOperator):
    """Keeps the rows for which a condition is true; filters the others.

    Args:
        condition: over columns, such as ``score >= 4 and lang == "en"``. A column whose name is no identifier is
            ``row["two words"]``; one that not every row has: ``"score" in row and score >= 4``.

    Raises:
        ConfigError: when the condition cannot be read, or uses what is not allowed.
    """

    def __init__(self, condition: str) -> None:
        self.condition = condition
        self._is_true = compile_condition(condition)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, or why not.

        Raises:
            RowDataError: when the row has no such column, or another kind of value in it.
        """
        return item if self._is_true(row_of(item)) else Rejected(f"not {self.condition}")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs: the condition is compiled there."""
        return {name: value for name, value in vars(self).items() if name != "_is_true"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._is_true = compile_condition(self.condition)


class Select(DataOperator):
    """Keeps the columns that are named, in this order, and no others.

    Args:
        columns: their names.
        missing: "fail": a row that lacks one fails; "ignore": it has those that it has.
    """

    def __init__(self, columns: str | Sequence[str], *, missing: Missing = "fail") -> None:
        self.columns = as_columns("columns", columns)
        self.missing = check_choice("missing", missing, Missing)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with these columns."""
        row = row_of(item)
        if self.missing == "ignore":
            return {column: row[column] for column in self.columns if column in row}
        try:
            return {column: row[column] for column in self.columns}
        except KeyError as error:
            refuse_missing(row, error.args[0])


class Drop(DataOperator):
    """Drops columns.

    Args:
        columns: their names.
        missing: "fail": a row that lacks one fails; "ignore": it does not.
    """

    def __init__(self, columns: str | Sequence[str], *, missing: Missing = "fail") -> None:
        self.columns = as_columns("columns", columns)
        self.missing = check_choice("missing", missing, Missing)
        if ID_FIELD in self.columns:
            raise ConfigError(f"{ID_FIELD!r} is the id of a row and cannot be dropped; write an output without ids")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row without them."""
        row = dict(row_of(item))
        for column in self.columns:
            if column in row:
                del row[column]
            elif self.missing == "fail":
                refuse_missing(row, column)
        return row


class Rename(DataOperator):
    """Gives columns other names; they stay in their places.

    Args:
        columns: new names by the old ones. Two may change places.
        missing: "fail": a row that lacks one fails; "ignore": it does not.
    """

    def __init__(self, columns: Mapping[str, str], *, missing: Missing = "fail") -> None:
        if not isinstance(columns, Mapping):
            raise ConfigError(f"columns must be {{old name: new name, …}}, not {columns!r}")
        self.columns = dict(columns)
        self.missing = check_choice("missing", missing, Missing)
        as_columns("columns", list(self.columns))
        as_columns("columns", [new_column("columns: the new name", name) for name in self.columns.values()])
        if ID_FIELD in self.columns:
            raise ConfigError(f"{ID_FIELD!r} is the id of a row and cannot be renamed; copy it in a step of your own")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with the new names.

        Raises:
            RowDataError: when a column has a new name already, or an old one is missing.
        """
        row, names = row_of(item), self.columns
        if self.missing == "fail":
            for column in names:
                if column not in row:
                    refuse_missing(row, column)
        renamed = {names.get(column, column): value for column, value in row.items()}
        if len(renamed) < len(row):
            twice = next(new for old, new in names.items() if old in row and new in row and new not in names)
            raise RowDataError(f"the row has a column {twice!r} already; drop or rename it first")
        return renamed
