"""What rows are compared by: columns, or a function of the row."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Literal, get_args

import orjson

from llm_datagen.config import check_choice
from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.ops.base import BOOKKEEPING, a_list, as_columns, as_function, value_of
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import ID_FIELD, SOURCES_FIELD

Normalize = Literal["lower", "whitespace"]
"""How texts are made equal first: small letters; white space as one blank, and none at the ends."""

_DIGEST_BYTES = 15
"""120 bits: two keys of a trillion have one digest with a probability below 10**-12."""


class RowKey:
    """What a row is compared by.

    Args:
        by: columns; None for all, without those that only say where a row comes from.
        key: a function of the row that returns plain data, or its ``module:name``, in place of columns.
        normalize: how texts are made equal first.
        of_all: whether it may be all columns.
        name: what the argument with the columns is called.

    Raises:
        ConfigError: when both are given, or one is nothing such.
    """

    def __init__(
        self,
        by: str | Sequence[str] | None,
        key: Callable[[Any], Any] | str | None = None,
        normalize: Sequence[str] = (),
        *,
        of_all: bool = True,
        name: str = "by",
    ) -> None:
        if by is not None and key is not None:
            raise ConfigError(f"give columns ({name}=), or a function (key=), not both")
        if by is None and key is None and not of_all:
            raise ConfigError(f"give columns ({name}=), or a function (key=)")
        self.columns = None if by is None else as_columns(name, by)
        self.function = as_function("key", key)
        self._only = self.columns[0] if self.columns is not None and len(self.columns) == 1 else None
        steps = a_list("normalize", normalize, f"a list of {', '.join(map(repr, get_args(Normalize)))}")
        self._normalize = [check_choice("normalize", each, Normalize) for each in steps]

    def value(self, item: Any) -> Any:
        """Return what the row is compared by: the value of the one column, or of several as a list.

        Raises:
            RowDataError: when a column is missing, or the function returned what is no data.
        """
        if self._only is not None:
            found = value_of(item, self._only)
        elif self.columns is not None:
            found = [value_of(item, column) for column in self.columns]
        elif self.function is not None:
            found = _plain(self.function(item))
        elif isinstance(item, dict):
            found = {name: value for name, value in item.items() if name not in BOOKKEEPING}
        else:
            found = item
        return self._normalized(found) if self._normalize else found

    def digest(self, item: Any) -> str:
        """Return a digest of what the row is compared by."""
        return digest_of(self.value(item))

    def columns_of(self, item: Any) -> dict[str, Any]:
        """Return the columns that the row is compared by; a function's value as the column `key`."""
        if self.columns is not None:
            return {column: value_of(item, column) for column in self.columns}
        return {"key": self.value(item)}

    def names(self) -> list[str]:
        """Return the names of the columns that `columns_of` gives."""
        return ["key"] if self.columns is None else self.columns

    def _normalized(self, value: Any) -> Any:
        if isinstance(value, str):
            if "lower" in self._normalize:
                value = value.lower()
            return " ".join(value.split()) if "whitespace" in self._normalize else value
        if isinstance(value, list):
            return [self._normalized(each) for each in value]
        if isinstance(value, dict):
            return {name: self._normalized(each) for name, each in value.items()}
        return value


def _plain(value: Any) -> Any:
    """Return what a function gave as a state has it: tuples as lists.

    Raises:
        RowDataError: when it is no plain data.
    """
    if value is None or isinstance(value, str | int):
        return value
    try:
        return loads_exactly(dumps(value))
    except (TypeError, ValueError) as error:
        raise RowDataError(f"the function key= must return plain data: {error}") from None


def refuse_lost_columns(columns: Sequence[str]) -> None:
    """Refuse columns of a row that is made of a key, if another one would take the place of one of them.

    Args:
        columns: all that the row is to have.

    Raises:
        ConfigError: when one is there twice, or has a name that the engine gives such rows.
    """
    twice = next((column for number, column in enumerate(columns) if column in columns[:number]), None)
    if twice is not None:
        raise ConfigError(f"the rows would have two columns {twice!r}, one of the key; give the other one a new name")
    made = [column for column in columns if column in (ID_FIELD, SOURCES_FIELD)]
    if made:
        raise ConfigError(f"the rows that are made get a {made[0]!r} of their own; copy or rename it in a step before")


def with_whole_numbers(value: Any) -> Any:
    """Return data in which numbers that are whole are so in type."""
    kind = value.__class__
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict:
        return {name: with_whole_numbers(each) for name, each in value.items()}
    return [with_whole_numbers(each) for each in value] if kind is list else value


def digest_of(value: Any) -> str:
    """Return a digest of plain data: of 20 characters, whatever the order of the columns of objects.

    Equal numbers, 1 and 1.0, have one digest.

    Raises:
        RowDataError: when it is no plain data.
    """
    try:
        data = dumps(value if value.__class__ is str else with_whole_numbers(value), option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise RowDataError(f"what rows are compared by must be plain data: {error}") from None
    return b64encode(blake2b(data, digest_size=_DIGEST_BYTES).digest()).decode()
