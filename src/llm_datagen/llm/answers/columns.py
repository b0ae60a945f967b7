"""The columns of an answer, added to those of the row: nothing is overwritten unless the user says so."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.llm.answers.call_log import without_data
from llm_datagen.llm.errors import ColumnExistsError
from llm_datagen.llm.prompts.template import row_label
from llm_datagen.llm.types import ChatAnswer

EXTRAS = ("reasoning", "tool_calls", "logprobs", "messages")
"""What an answer may have besides its text, see `ChatAnswer.extras`, and the conversation that brought it."""

_MESSAGES = "messages"


def with_columns(row: Mapping[str, Any], columns: Mapping[str, Any], *, overwrites: bool) -> dict[str, Any]:
    """Return a new row that has the columns, too.

    Raises:
        ColumnExistsError: when the row has one of them, and it may not be overwritten.
    """
    if not overwrites:
        check_free(columns, row)
    return {**row, **columns}


def check_free(columns: Collection[str], row: Mapping[str, Any]) -> None:
    """Check that the row has none of the columns.

    Raises:
        ColumnExistsError: naming those that it has.
    """
    if row.keys().isdisjoint(columns):
        return
    taken = ", ".join(repr(name) for name in columns if name in row)
    raise ColumnExistsError(
        f"{row_label(row)} has a column {taken} already, and the answer would overwrite it: "
        "give the new one another name, or set overwrite_columns=True"
    )


class ExtraColumns:
    """The columns of what an answer has besides its text.

    Args:
        given: the column of each, by the names of `EXTRAS`; None for none.
        taken: columns of the text.

    Attributes:
        columns: their names.
        takes_tool_calls: whether calls of tools become a column, so that an answer may have no text.
        takes_reasoning: whether thoughts become a column, so that a think block is removed from the text.

    Raises:
        ConfigError: when it is no such mapping, or a column is taken.
    """

    def __init__(self, given: Any, taken: Collection[str] = ()) -> None:
        if given is None:
            given = {}
        if not isinstance(given, Mapping) or not set(given) <= set(EXTRAS):
            raise ConfigError(f"extra_columns must be a dict from {', '.join(EXTRAS)} to columns, not {given!r}")
        for column in given.values():
            if not isinstance(column, str) or not column or column.startswith("_"):
                raise ConfigError(f"extra_columns must name columns that do not start with '_', not {column!r}")
            if column in taken or list(given.values()).count(column) > 1:
                raise ConfigError(f"the column {column!r} of extra_columns is filled already: give it another name")
        self._columns = dict(given)
        self.columns = tuple(self._columns.values())
        self.takes_reasoning = "reasoning" in self._columns
        self.takes_tool_calls = "tool_calls" in self._columns

    def of(self, answer: ChatAnswer, messages: Callable[[], Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        """Return the columns, as JSON data; None for what the answer does not have.

        Args:
            answer: the last answer.
            messages: makes the conversation.
        """
        if not self._columns:
            return {}
        return {
            column: [without_data(each) for each in messages()] if name == _MESSAGES else answer.extras.get(name)
            for name, column in self._columns.items()
        }


def checked_columns(names: Any) -> tuple[str, ...]:
    """Return the names of an answer's columns.

    Raises:
        ConfigError: when a name cannot be that of a column.
    """
    for name in names:
        if not isinstance(name, str) or not name or name.startswith("_"):
            raise ConfigError(
                f"an output column must have a name that does not start with '_', not {name!r}: such names belong to "
                "the row's id and its like. Give the property another name (in pydantic an alias)"
            )
    return tuple(names)
