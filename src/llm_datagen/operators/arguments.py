"""The constructor arguments of an operator, as plain data for the run state; never a secret."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llm_datagen.operators.import_path import load, name_of
from llm_datagen.operators.secret_names import is_secret_name
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

MOST_BYTES = 65_536
"""The longest arguments, as JSON, that are stored: the run state is written several times per second."""

_TUPLE, _NAME = "$tuple", "$name"
_SECRET_TEXT = re.compile(r"://[^/\s:@]*:[^/\s@]+@|^(Bearer|Basic)\s|^sk-")
_QUERY_NAME = re.compile(r"[?&]([\w.-]+)=")


class NotPlainError(Exception):
    """Raised when an argument cannot be stored; the text says which and why."""


def kept_arguments(made: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class or a function as plain data: ``args`` and ``with``.

    Args:
        made: the class, or the function whose arguments are partly given.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        NotPlainError: when one of them is a secret, too long, or neither plain data nor something that a module holds.
    """
    _refuse_secret_arguments(made, args, kwargs)
    kept = {
        "args": [_plain(value, f"argument {number + 1}") for number, value in enumerate(args)],
        "with": {name: _plain(value, name) for name, value in kwargs.items()},
    }
    try:
        data = dumps(kept)
    except TypeError as error:
        raise NotPlainError(f"its arguments cannot be written as JSON ({error})") from None
    if len(data) > MOST_BYTES:
        raise NotPlainError(f"its arguments are {len(data):,} bytes, and at most {MOST_BYTES:,} are kept")
    if loads_exactly(data) != kept:  # nan, inf
        raise NotPlainError("its arguments hold a number that JSON cannot express")
    return kept


def given_arguments(kept: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments as they were.

    Raises:
        ConfigError: when something that they name cannot be imported.
    """
    args = [_given(value) for value in kept.get("args", ())]
    return args, {name: _given(value) for name, value in kept.get("with", {}).items()}


def _refuse_secret_arguments(made: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse secrets, positional ones by the name of their parameter."""
    names: dict[str, Any] = dict(kwargs)
    with contextlib.suppress(TypeError, ValueError):  # what does not fit is refused by the constructor
        names = dict(inspect.signature(made).bind_partial(*args, **kwargs).arguments)
    for name, value in names.items():
        _refuse_secret(name, value)


def _refuse_secret(name: str, value: Any) -> None:
    if is_secret_name(name) and isinstance(value, str | bytes) and value:
        raise NotPlainError(
            f"it was given {name} literally, and a secret is never written to a run state; let it come from the "
            "environment"
        )


def _plain(value: Any, where: str) -> Any:
    if value is None or type(value) in {bool, int, float}:
        return value
    if type(value) is str:
        if _holds_secret(value):
            raise NotPlainError(f"{where} seems to hold a secret, which is never written to a run state")
        return value
    if type(value) is list:
        return [_plain(part, where) for part in value]
    if type(value) is tuple:
        return {_TUPLE: [_plain(part, where) for part in value]}
    if type(value) is dict and all(type(key) is str and not key.startswith("$") for key in value):
        for key, part in value.items():
            _refuse_secret(key, part)
        return {key: _plain(part, f"{where}.{key}") for key, part in value.items()}
    name = name_of(value) if isinstance(value, type) or inspect.isroutine(value) else None
    if name is None:
        raise NotPlainError(f"{where} is a {type(value).__name__}, which is no plain data")
    return {_NAME: name}


def _holds_secret(text: str) -> bool:
    """Return whether a text looks like a key, or is a URL with one."""
    names = _QUERY_NAME.findall(text)
    return _SECRET_TEXT.search(text) is not None or any(name == "key" or is_secret_name(name) for name in names)


def _given(value: Any) -> Any:
    if isinstance(value, list):
        return [_given(part) for part in value]
    if not isinstance(value, dict):
        return value
    if _TUPLE in value:
        return tuple(_given(part) for part in value[_TUPLE])
    if _NAME in value:
        return load(value[_NAME])
    return {key: _given(part) for key, part in value.items()}
