"""Checks of values. Each is given the name of a setting and a value, and returns the value as it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from llm_datagen.config.addresses import masked, refuse_secrets
from llm_datagen.errors import ConfigError

T = TypeVar("T", int, float)

_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
_URI = re.compile(r"(?i)[a-z][\w+.-]*://|(?:s3|gs|az|hf):/")


LARGEST = (1 << 63) - 1
"""What no number among the settings exceeds: the run state can hold it, and every sum of a few."""
LONGEST = 10**9
"""Seconds that a setting has, at most: 31 years. Timers take no longer ones."""


def shown(value: Any) -> str:
    """Return a value as an error shows it: of a long number, how long it is."""
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"a number of {value.bit_length()} bits"
    return repr(value)


def is_number(value: Any) -> bool:
    """Return whether `value` is a number, and not NaN; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN


def check_most(name: str, value: T, most: int = LARGEST) -> T:
    """Return a number if it is not larger than `most`; else raise a ConfigError that names it."""
    if value > most:
        raise ConfigError(f"{name} must be at most {most:,}, not {shown(value)}")
    return value


def check_whole(name: str, value: Any, least: int = 0) -> int:
    """Return `value` if it is a whole number of at least `least`.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {shown(value)}")
    return check_most(name, value)


def check_count(name: str, value: Any) -> int:
    """Return `value` if it is a whole number of at least 1; else raise a ConfigError that names it."""
    return check_whole(name, value, least=1)


def check_seconds(name: str, value: Any) -> float:
    """Return `value` if it is a positive number of seconds; else raise a ConfigError that names it."""
    return check_positive(name, value, "number of seconds", LONGEST)


def check_rate(name: str, value: Any) -> float:
    """Return `value` if it is a positive number of rows a second; else raise a ConfigError that names it."""
    return check_positive(name, value, "number of rows a second")


def check_positive(name: str, value: Any, what: str, most: int = LARGEST) -> float:
    """Return `value` if it is a number above 0; else raise a ConfigError that says `what` it must be."""
    if not is_number(value) or not 0 < value < float("inf"):
        raise ConfigError(f"{name} must be a positive {what}, not {shown(value)}")
    return float(check_most(name, value, most))


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
    if path.isspace():
        raise ConfigError(f"{name} is blank ({path!r}); give a path")
    refuse_secrets(name, path)
    if "\0" in path:
        raise ConfigError(f"{name} has a NUL character, which no path can have: {path!r}")
    if _HALF_A_CHARACTER.search(path):
        raise ConfigError(
            f"{name} is no text: {path!a} has half a character, or bytes that are not UTF-8; rename the file or folder"
        )
    if path.partition("/")[0] == "~":
        raise ConfigError(f"{name} is {path!r}, and ~ is not expanded here; write the folder, or Path.home() in Python")
    return path


def check_local_path(name: str, value: Any) -> str:
    """Return `value` if it can be the path of a file of this machine, as text: `check_path`, and no URI.

    Raises:
        ConfigError: naming `name`, the value, and what to write instead.
    """
    path = check_path(name, value)
    if _URI.match(path):
        raise ConfigError(f"{name} is {masked(path)!r}, a URI; it lies on this machine only: give the path of a file")
    return path


def check_flag(name: str, value: Any) -> bool:
    """Return `value` if it is True or False.

    Raises:
        ConfigError: naming `name` and the value.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {value!r}")
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
            f"{name} must be a number of rows (such as 100), a share of the rows (such as 0.01) or None, "
            f"not {shown(value)}"
        )
    return check_most(name, value)


Check = Callable[[str, Any], Any]
"""Given the name of a setting and a value, it returns the value as it is kept, or raises a ConfigError."""


def choice_of(choices: Any) -> Check:
    """Return a check that takes the literals in `choices`."""
    return lambda name, value: check_choice(name, value, choices)


def optional(check: Check) -> Check:
    """Return a check that takes None, and what `check` takes."""
    return lambda name, value: None if value is None else check(name, value)
