"""Rows and items: what lies on disk, and what an operator is given (M14, M15).

On disk every row is an object with an `_i`. A value that is not an object is stored as ``{"_i": …, "data": value}``
and given back as the value. An object that has no field but `data` is stored with its `_i` behind it
(``{"data": …, "_i": …}``), which is how the two are told apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD, SOURCES_FIELD, Id, RootNames, check_id


@dataclass(frozen=True, slots=True)
class Derived:
    """What an operator returns for a row that stands for other rows than the one that it was called for.

    Their ids are kept in the row, in the column `_sources`, by which `trace` finds them.

    Attributes:
        row: the row.
        sources: the ids of the rows that it stands for.
    """

    row: dict[str, Any]
    sources: Sequence[Id]

    def as_row(self) -> dict[str, Any]:
        """Return the row with its sources.

        Raises:
            TypeError: when the row is no object.
        """
        if not isinstance(self.row, dict):
            raise TypeError(f"a Derived carries a row that is an object, not {type(self.row).__name__}")
        return {**self.row, SOURCES_FIELD: list(self.sources)}


class Rejected(Exception):  # noqa: N818 - it is no error: a row is left out, for a reason
    """What an operator returns, or raises, for a row that it leaves out, with the reason.

    The row counts as filtered, and as rejected. With ``keep_rejected=True`` its node keeps it, with the reason. In
    `process_batch`, it stands in the place of the row, and is not raised.

    Args:
        reason: why, for people, such as ``"too short"``. Rows are grouped by it, so it should not name the row.

    Attributes:
        reason: the same.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)


@dataclass(frozen=True, slots=True)
class Bare:
    """A value that is one row, whatever it is: of a list, an operator's result makes several rows, and of None, none.

    Attributes:
        value: the value.
    """

    value: Any


def copied(item: Any) -> Any:
    """Return what an operator returns to give its item as one row."""
    return item if isinstance(item, dict) else Bare(item)


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
        if isinstance(value, Derived):
            return {**value.as_row(), ID_FIELD: row_id}
        if isinstance(value, Rejected):
            raise TypeError("a Rejected stands for a whole row: return it in place of the row, not among its results")
        return {ID_FIELD: row_id, DATA_FIELD: value.value if isinstance(value, Bare) else value}
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
