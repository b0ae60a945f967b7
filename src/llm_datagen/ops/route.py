"""Rules that say to which output of a node a row goes: `route` in `bind_io`, and in a pipeline file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.operators.fingerprint import Parts
from llm_datagen.operators.fingerprint.data import data_part
from llm_datagen.ops.base import new_column, refuse_value, row_of, value_of
from llm_datagen.ops.expression import compile_condition


class RouteBy:
    """Sends each row to the output that a column names.

    A row whose column names no output of the node fails.

    Args:
        column: the column, which holds text.

    Raises:
        ConfigError: when it is no name of a column.
    """

    def __init__(self, column: str) -> None:
        self.column = new_column("column", column)

    def __call__(self, item: Any) -> str:
        """Return the name of the row's output.

        Raises:
            RowDataError: when the row has no such column, or it does not hold text.
        """
        name = value_of(item, self.column)
        if not isinstance(name, str):
            refuse_value(self.column, name, "the name of an output")
        return name

    def fingerprint(self) -> Parts:
        """Return the column: a resume compares it."""
        return {"column": data_part("column", self.column, shows_text=True)}


class RouteWhen:
    """Sends each row to the first output whose condition is true.

    Args:
        conditions: by the name of its output, a condition as that of `Keep`, such as ``score >= 4``. They are tried in
            this order.
        otherwise: the output of rows for which none is true; None drops them.

    Attributes:
        outputs: the names of the outputs.

    Raises:
        ConfigError: when there is no condition, or one cannot be read.
    """

    def __init__(self, conditions: Mapping[str, str], otherwise: str | None = None) -> None:
        if not isinstance(conditions, Mapping) or not conditions:
            raise ConfigError(f"conditions must hold a condition for each output, not {conditions!r}")
        names = [("conditions", name) for name in conditions] + (
            [] if otherwise is None else [("otherwise", otherwise)]
        )
        for argument, name in names:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"{argument}: the name of an output must be text, not {name!r}")
        for condition in conditions.values():
            if not isinstance(condition, str):
                raise ConfigError(f"conditions: a condition must be text, not {condition!r}")
        self.conditions = dict(conditions)
        self.otherwise = otherwise
        self.outputs = tuple(dict.fromkeys(self.conditions if otherwise is None else [*self.conditions, otherwise]))
        self._compile()

    def _compile(self) -> None:
        self._are_true = [(name, compile_condition(condition)) for name, condition in self.conditions.items()]

    def __call__(self, item: Any) -> str | None:
        """Return the name of the row's output.

        Raises:
            RowDataError: when the row has no such column, or another kind of value in it.
        """
        row = row_of(item)
        return next((name for name, is_true in self._are_true if is_true(row)), self.otherwise)

    def fingerprint(self) -> Parts:
        """Return the conditions, in their order, and what is behind them: a resume compares these."""
        conditions = {f"condition of {name}": text for name, text in self.conditions.items()}
        values = {**conditions, "order": ", ".join(self.conditions), "otherwise": self.otherwise}
        return {name: data_part(name, value, shows_text=True) for name, value in values.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs: the conditions are compiled there."""
        return {name: value for name, value in vars(self).items() if name != "_are_true"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._compile()
