"""Checks of what is said of tables of text: separators, columns, types of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.config.checks import check_choice, check_text
from llm_datagen.config.choices import CellType
from llm_datagen.errors import ConfigError


def check_sign(name: str, value: Any) -> str:
    """Return `value` if it can stand between cells, or around one: a sign of ASCII that is no letter and no digit.

    Raises:
        ConfigError: when it cannot.
    """
    is_sign = isinstance(value, str) and len(value) == 1 and value.isascii() and not value.isalnum()
    if not is_sign or value in "\r\n\0":
        raise ConfigError(f"{name} must be one sign of ASCII, such as ';', '|' or a tab ('\\t'), not {value!r}")
    return str(value)


def check_columns(name: str, value: Any) -> list[str]:
    """Return `value` if it is a list of names of columns, each once.

    Raises:
        ConfigError: when it is not.
    """
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ConfigError(f"{name} must be a list of the names of columns, not {value!r}")
    columns = [check_text(f"{name}: a column", each) for each in value]
    twice = [each for each in columns if columns.count(each) > 1]
    if twice:
        raise ConfigError(f"{name} names the column {twice[0]!r} more than once")
    return columns


def check_cell_types(name: str, value: Any) -> dict[str, CellType]:
    """Return `value` if it is a mapping of columns to types of cells.

    Raises:
        ConfigError: when it is not, naming the column.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be columns with their types, such as {{'age': 'int'}}, not {value!r}")
    if "_i" in value:
        raise ConfigError(f"{name} cannot say what '_i' is: it is the id of the row, which the engine reads itself")
    return {
        check_text(f"{name}: a column", each): check_choice(f"{name}[{each!r}]", kind, CellType)
        for each, kind in value.items()
    }
