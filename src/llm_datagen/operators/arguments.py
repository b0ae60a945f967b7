"""The constructor arguments of an operator, as plain data for the run state; never a secret."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import a_kind
from llm_datagen.operators.import_path import load, name_of
from llm_datagen.operators.secret_names import is_secret_name
from llm_datagen.streams.formats.json_text import dumps, loads_exactly

MOST_BYTES = 65_536
"""The longest arguments, as JSON, that are stored: the run state is written several times per second."""

_TUPLE, _NAME, _MADE, _OF = "$tuple", "$name", "$made", "of"
_SECRET_TEXT = re.compile(r"://[^/\s:@]*:[^/\s@]+@|^(Bearer|Basic)\s|^sk-")
_QUERY_NAME = re.compile(r"[?&]([\w.-]+)=")


class NotPlainError(Exception):
    """Raised when an argument cannot be stored; the text says which and why."""


def stored_arguments(made: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class or a function as plain data: ``args`` and ``with``.

    Args:
        made: the class, or the function whose arguments are partly given.
        args: positional arguments.
        kwargs: keyword arguments.

    Raises:
        NotPlainError: when one of them is a secret, too long, or neither plain data nor something that a module holds.
    """
    _refuse_secret_arguments(made, args, kwargs)
    stored = {
        "args": [_plain(value, f"argument {number + 1}") for number, value in enumerate(args)],
        "with": {name: _plain(value, name) for name, value in kwargs.items()},
    }
    try:
        data = dumps(stored)
        if len(data) <= MOST_BYTES and loads_exactly(data) != stored:  # nan, inf
            raise NotPlainError("its arguments hold a number that JSON cannot express")
    except (TypeError, ValueError) as error:  # such as an integer that is too long
        raise NotPlainError(f"its arguments cannot be written as JSON ({error})") from None
    if len(data) > MOST_BYTES:
        raise NotPlainError(f"its arguments are {len(data):,} bytes, and at most {MOST_BYTES:,} are kept")
    return stored


def given_arguments(stored: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments as they were.

    Raises:
        ConfigError: when something that they name cannot be imported.
    """
    args = [_given(value) for value in stored.get("args", ())]
    return args, {name: _given(value) for name, value in stored.get("with", {}).items()}


def _refuse_secret_arguments(made: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse secrets, positional ones by the name of their parameter."""
    names: dict[str, Any] = dict(kwargs)
    with contextlib.suppress(TypeError, ValueError):  # what does not fit is refused by the constructor
        names = dict(inspect.signature(made).bind_partial(*args, **kwargs).arguments)
    for name, value in names.items():
        _refuse_secret(name, value)


def _refuse_secret(name: str, value: Any) -> None:
    is_text = isinstance(value, str | bytes) or hasattr(value, "get_secret_value")
    if is_secret_name(name) and is_text and value:
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
    if name is not None:
        return {_NAME: name}
    name = name_of(type(value)) if _is_value(value) else None
    if name is not None:
        given = {each.name: getattr(value, each.name) for each in fields(value) if each.init}
        stored = {_MADE: name, _OF: _plain(given, where)}
        with contextlib.suppress(Exception):  # a constructor is foreign code
            if type(value)(**given) == value:
                return stored
    raise NotPlainError(f"{where} is {a_kind(type(value))}, which is no plain data")


def _is_value(value: Any) -> bool:
    """Return whether it is a frozen dataclass, such as `llm_datagen.llm.Budget`: its fields are all there is to it."""
    params = getattr(type(value), "__dataclass_params__", None)
    return params is not None and params.frozen and params.eq


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
    if _MADE in value:
        try:
            return load(value[_MADE])(**_given(value[_OF]))
        except TypeError as error:
            raise ConfigError(f"{value[_MADE]} cannot be made as it was: {error}") from error
    return {key: _given(part) for key, part in value.items()}
