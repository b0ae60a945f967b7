"""Checks of values. Each is given the name of a setting and a value, and returns the value as it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, get_args

from llm_datagen.errors import ConfigError

_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


def check_count(name: str, value: Any) -> int:
    """Return `value` if it is a whole number of at least 1.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
    return value


def check_seconds(name: str, value: Any) -> float:
    """Return `value` if it is a positive number of seconds; else raise a ConfigError that names it."""
    return _check_positive(name, value, "seconds")


def check_rate(name: str, value: Any) -> float:
    """Return `value` if it is a positive number of rows a second; else raise a ConfigError that names it."""
    return _check_positive(name, value, "rows a second")


def _check_positive(name: str, value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a positive number of {unit}, not {value!r}")
    return float(value)


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """Return `value` if it is one of the literals in `choices`.

    Raises:
        ConfigError: naming `name`, the value and the choices.
    """
    allowed = get_args(choices)
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def check_text(name: str, value: Any) -> str:
    """Return `value` if it is text that is not empty.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name} must be text, not {value!r}")
    return value


def check_path(name: str, value: Any) -> str:
    """Return `value` if it can be the path of a file, as text.

    Raises:
        ConfigError: naming `name`, the value, and what to write instead.
    """
    path = check_text(name, value)
    if "\0" in path:
        raise ConfigError(f"{name} has a NUL character, which no path can have: {path!r}")
    if _HALF_A_CHARACTER.search(path):
        raise ConfigError(
            f"{name} is no text: {path!a} has half a character, or bytes that are not UTF-8; rename the file or folder"
        )
    if path.partition("/")[0] == "~":
        raise ConfigError(f"{name} is {path!r}, and ~ is not expanded here; write the folder, or Path.home() in Python")
    return path


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {value!r}")
    return value


def check_whole(name: str, value: Any) -> int:
    """Return `value` if it is a whole number of at least 0.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{name} must be a whole number of at least 0, not {value!r}")
    return value


def check_max_errors(name: str, value: Any) -> int | float | None:
    """Return `value` if it is a number of rows, a share of the rows (between 0 and 1), or None.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if value is None or (isinstance(value, float) and 0 < value < 1):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(
            f"{name} must be a number of rows (such as 100), a share of the rows (such as 0.01) or None, not {value!r}"
        )
    return value


Check = Callable[[str, Any], Any]
"""Given the name of a setting and a value, it returns the value as it is kept, or raises a ConfigError."""


def choice_of(choices: Any) -> Check:
    """Return a check that takes the literals in `choices`."""
    return lambda name, value: check_choice(name, value, choices)


def optional(check: Check) -> Check:
    """Return a check that takes None, and what `check` takes."""
    return lambda name, value: None if value is None else check(name, value)
