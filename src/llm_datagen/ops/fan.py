"""Operators that make several rows of one."""

from __future__ import annotations

from itertools import product
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators import INodeContext
from llm_datagen.ops.base import DataOperator, new_column, refuse_value, value_of, with_columns, without_id


class Explode(DataOperator):
    """Makes a row of every element of a list. The other columns are the same in each; an empty list gives no row.

    Args:
        column: the column with the list; in each row it has one element.
    """

    def __init__(self, column: str) -> None:
        self.column = new_column("column", column)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the rows.

        Raises:
            RowDataError: when the column is missing, or holds no list.
        """
        elements = value_of(item, self.column)
        if not isinstance(elements, list):
            refuse_value(self.column, elements, "a list")
        row = without_id(item)
        return [{**row, self.column: element} for element in elements]


class Cross(DataOperator):
    """Makes a row of every value of a list, or of every combination of the values of several lists.

    Args:
        columns: a new column each, with its values: ``Cross(persona=["a child", "a judge"], tone=["calm", "angry"])``.
    """

    def __init__(self, **columns: list[Any]) -> None:
        self.columns = columns
        if not columns:
            raise ConfigError(
                "Cross needs a column with a list of values, such as Cross(persona=['a child', 'a judge'])"
            )
        for column, values in columns.items():
            new_column("the argument of Cross", column)
            if not isinstance(values, list | tuple) or not values:
                raise ConfigError(f"{column} must be a list of values, not {values!r}")
        self._combinations = [dict(zip(columns, values, strict=True)) for values in product(*columns.values())]

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the rows; the last column changes fastest.

        Raises:
            RowDataError: when the row has one of the columns already.
        """
        row = without_id(with_columns(item, self._combinations[0]))
        return [{**row, **values} for values in self._combinations]
