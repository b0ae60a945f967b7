"""What several judges say, as one value, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext
from llm_datagen.operators.majority import majority
from llm_datagen.ops.base import DataOperator, as_columns, is_nan, new_column, refuse_value, value_of, with_columns


class Vote(DataOperator):
    """Adds the value that most of several columns have, and the share of them that have it.

    Null is no vote. When two values have the most votes, there is no winner: the value is null. Without any vote the
    share is 0.

    Args:
        columns: those of the judges, two or more; each holds a text, a number, true, false, or null.
        into: the new column with the value.
        agreement: the new column with the share, from 0 to 1, of all votes that were given.
    """

    def __init__(self, columns: Sequence[str], *, into: str = "vote", agreement: str = "agreement") -> None:
        self.columns = as_columns("columns", columns)
        if len(self.columns) < 2:
            raise ConfigError(f"columns must be those of two or more judges, not {self.columns!r}")
        self.into = new_column("into", into)
        self.agreement = new_column("agreement", agreement)
        if into == agreement:
            raise ConfigError(f"into and agreement must be two columns, not both {into!r}")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with both columns.

        Raises:
            RowDataError: when a column of a judge is missing, or holds a list or an object; when a new one is there.
        """
        votes = [value for column in self.columns if (value := _checked(column, value_of(item, column))) is not None]
        vote, agreement = majority(votes)
        return with_columns(item, {self.into: vote, self.agreement: agreement})


def _checked(column: str, value: Any) -> Any:
    if value is not None and (not isinstance(value, str | int | float) or is_nan(value)):
        refuse_value(column, value, "a text, a number, true, false, or null")
    return value
