"""Rows and items: what lies on disk, and what an operator is given (M14, M15).

On disk every row is an object with an `_i`. A value that is not an object is stored as ``{"_i": …, "data": value}``
and given back as the value. An object that has no field but `data` is stored with its `_i` behind it
(``{"data": …, "_i": …}``), which is how the two are told apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, Id, RootNames, check_id


class NamedLater(ABC):
    """A row that is named when its number is known: what a decoder may return in place of a row."""

    __slots__ = ()

    @abstractmethod
    def item_of(self, ordinal: int) -> tuple[Id, Any]:
        """Return its id and its item.

        Raises:
            ValueError: when it is no row.
        """


def as_row(value: Any, row_id: Id) -> dict[str, Any]:
    """Return `value` as the row that is stored under `row_id`. `value` is not changed."""
    if not isinstance(value, dict):
        return {ID_FIELD: row_id, DATA_FIELD: value}
    if DATA_FIELD in value and len(value) == (2 if ID_FIELD in value else 1):
        return {DATA_FIELD: value[DATA_FIELD], ID_FIELD: row_id}
    return {**value, ID_FIELD: row_id}


def item_of(value: Any, ordinal: int) -> tuple[Id, Any]:
    """Return the id and the item of a decoded row. A row that has no id gets its number in the stream.

    Raises:
        ValueError: when the id is neither a whole number nor text.
    """
    if not isinstance(value, dict):
        return value.item_of(ordinal) if isinstance(value, NamedLater) else (ordinal, value)
    row_id = value.get(ID_FIELD)
    if row_id is None:
        value[ID_FIELD] = ordinal
        return ordinal, value
    check_id(row_id)
    if len(value) == 2 and DATA_FIELD in value and next(iter(value)) == ID_FIELD:
        return row_id, value[DATA_FIELD]
    return row_id, value


def named(value: Any, ordinal: int, root: RootNames | None) -> tuple[Id, Any]:
    """Return the id and the item of a decoded row of a node's source.

    Args:
        value: the row.
        ordinal: its number in the stream.
        root: when that is the pipeline's input, how its rows are named; None when they have ids.

    Raises:
        ValueError: when the id is neither a whole number nor text, or the row has one that is refused.
    """
    if root is None:
        return item_of(value, ordinal)
    if not isinstance(value, dict):
        return root.name(ordinal), value
    root.put(value, ordinal)
    return item_of(value, ordinal)
