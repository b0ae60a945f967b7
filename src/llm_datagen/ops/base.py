"""What the operators of this package have in common: settings that are compared on a resume, and access to columns."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeGuard

from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.errors.advice import a_kind, did_you_mean
from llm_datagen.operators import BaseOperator
from llm_datagen.operators.fingerprint import Parts, parts_of
from llm_datagen.operators.fingerprint.data import data_part
from llm_datagen.operators.import_path import load, name_of
from llm_datagen.streams.ids import ID_FIELD, Id

BOOKKEEPING = frozenset({ID_FIELD, "_i_in", "_sources", "_source", "_meta", "_round"})
"""Columns that say where a row comes from. They do not count where all columns are compared."""


class DataOperator(BaseOperator):
    """An operator of this package. Each argument of its constructor is an attribute of the same name.

    A resume compares these, and not the code: another version of the package goes on with a run.
    """

    def fingerprint(self) -> Parts:
        """Return the settings; of a function, its code, too."""
        return self.parts_of_arguments()

    def parts_of_arguments(self, without: Sequence[str] = ()) -> Parts:
        """Return the parts of a fingerprint that its arguments are, but for some."""
        parts: Parts = {}
        for name in inspect.signature(type(self)).parameters:
            if name in without:
                continue
            value = getattr(self, name)
            if callable(value):
                parts |= {f"{name}: {part}": known for part, known in parts_of(value).items()}
            else:
                parts[name] = data_part(name, value, shows_text=True)
        return parts


class StateOperator(DataOperator):
    """An operator that keeps state: it is called for one row at a time, in the order of the rows."""

    keeps_state = True


def as_function(name: str, value: Callable[..., Any] | str | None) -> Callable[..., Any] | None:
    """Return a function that an operator is given, itself or as ``module:name``.

    Raises:
        ConfigError: when there is none of that name, or a resume could not import it.
    """
    if value is None:
        return None
    if isinstance(value, str) and ":" not in value:
        raise ConfigError(f"{name} must be a function, or its 'module:name', not {value!r}")
    found = load(value) if isinstance(value, str) else value
    if not callable(found):
        raise ConfigError(f"{name} must be a function, or its 'module:name', not {value!r}")
    if name_of(found) is None:
        raise ConfigError(
            f"{name} must be a function at the top level of a module, so that a resume can import it; "
            f"{getattr(found, '__qualname__', found)!r} is not (a lambda, or within another function)"
        )
    return found


def as_columns(name: str, value: str | Sequence[str]) -> list[str]:
    """Return names of columns: of one, or of several.

    Raises:
        ConfigError: when they are none, or one is named twice.
    """
    columns = [value] if isinstance(value, str) else a_list(name, value, "the name of a column, or a list of them")
    if not columns or not all(isinstance(column, str) and column for column in columns):
        raise ConfigError(f"{name} must be the name of a column, or a list of them, not {value!r}")
    if len(set(columns)) < len(columns):
        raise ConfigError(f"{name} names a column twice: {', '.join(columns)}")
    return columns


def columns_if_any(name: str, value: str | Sequence[str]) -> list[str]:
    """Return names of columns; none of an empty list.

    Raises:
        ConfigError: as `as_columns`.
    """
    return [] if isinstance(value, list | tuple) and not value else as_columns(name, value)


def column_or_none(name: str, value: Any) -> str | None:
    """Return the name of a column of the rows; None for None.

    Raises:
        ConfigError: when it is neither.
    """
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{name} must be the name of a column, or None, not {value!r}")
    return value


def a_list(name: str, value: Any, wanted: str) -> list[Any]:
    """Return the elements of a list.

    Args:
        name: what the argument is called.
        value: a list, a tuple, or what is like them; a text or a mapping is not.
        wanted: what it must be, in words.

    Raises:
        ConfigError: when it is none.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise ConfigError(f"{name} must be {wanted}, not {value!r}")
    return list(value)


def as_seed(value: Any) -> int | str:
    """Return what chance follows from.

    Raises:
        ConfigError: when it is no whole number and no text: another one may not be the same again.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ConfigError(f"seed must be a whole number or a text, not {value!r}")
    return value


def new_column(name: str, column: Any) -> str:
    """Return the name of a column that an operator makes.

    Raises:
        ConfigError: when it cannot be one.
    """
    if not isinstance(column, str) or not column or column == ID_FIELD:
        raise ConfigError(f"{name} must be the name of a column other than {ID_FIELD!r}, not {column!r}")
    return column


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number that is large enough.

    Raises:
        ConfigError: when it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number from {least} on, not {value!r}")
    return value


def row_of(item: Any) -> dict[str, Any]:
    """Return an item as a row with columns.

    Raises:
        RowDataError: when it is a bare value.
    """
    if not isinstance(item, dict):
        raise RowDataError(f"the row is {a_kind(type(item))} and has no columns")
    return item


def one_row(item: Any) -> Any:
    """Return an item that an operator can give as it is.

    Raises:
        RowDataError: when it is a bare list or null, which would be several rows, or none.
    """
    if item is None or isinstance(item, list):
        raise RowDataError(f"the row is {'null' if item is None else 'a list'}, and has no columns")
    return item


def id_of(item: Any) -> Id:
    """Return the id of a row.

    Raises:
        RowDataError: when it is a bare value.
    """
    row_id: Id = row_of(item)[ID_FIELD]
    return row_id


def key_parts(row_id: Id) -> tuple[Id, ...]:
    """Return an id as parts of a key of the state, which has no numbers of more than 64 bits."""
    return (row_id,) if isinstance(row_id, str) or -(2**63) <= row_id < 2**63 else ("", str(row_id))


def value_of(item: Any, column: str) -> Any:
    """Return the value of a column.

    Raises:
        RowDataError: when the row has no such column.
    """
    row = row_of(item)
    if column not in row:
        refuse_missing(row, column)
    return row[column]


def refuse_missing(row: Mapping[str, Any], column: str) -> NoReturn:
    """Say that a row has no such column."""
    known = [name for name in row if name != ID_FIELD]
    raise RowDataError(f"the row has no column {column!r}; {did_you_mean(column, known)}")


def with_columns(item: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with further columns.

    Raises:
        RowDataError: when it has one of them already.
    """
    row = row_of(item)
    for column in columns:
        if column in row:
            raise RowDataError(f"the row has a column {column!r} already; drop or rename it first")
    return {**row, **columns}


def without_id(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row without its id."""
    return {name: value for name, value in row.items() if name != ID_FIELD}


def is_nan(value: Any) -> bool:
    """Return whether a value is the float that no file has a number for, and that differs from itself."""
    return isinstance(value, float) and math.isnan(value)


def is_text(value: Any) -> bool:
    """Return whether a value is a text."""
    return isinstance(value, str)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a value is a number, and not true, false, or the float that is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not is_nan(value)


def list_of(item: Any, column: str, wanted: str, is_one: Callable[[Any], bool]) -> list[Any]:
    """Return a column of a row that holds a list.

    Args:
        item: the row.
        column: the column.
        wanted: what its elements are, for people: "numbers".
        is_one: tells whether an element is such.

    Raises:
        RowDataError: when the row has no such column, or it holds no list, or another element, which is named.
    """
    values = value_of(item, column)
    if not isinstance(values, list):
        refuse_value(column, values, f"a list of {wanted}")
    for number, value in enumerate(values):
        if not is_one(value):
            raise RowDataError(
                f"column {column!r} must hold a list of {wanted}, and element {number} (counted from 0) is "
                f"{kind_of(value)}"
            )
    return values


def kind_of(value: Any) -> str:
    """Return what kind of value it is, for people: "null", "a str"."""
    return "null" if value is None else "nan" if is_nan(value) else a_kind(type(value))


def refuse_value(column: str, value: Any, wanted: str) -> NoReturn:
    """Say that a column holds another kind of value than the one that is needed."""
    raise RowDataError(f"column {column!r} must hold {wanted}, and holds {kind_of(value)}")
