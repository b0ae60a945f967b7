"""Which settings the code gives: one that is given its default is told from one that is not given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")


def noting_given(init: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    """Let a constructor keep the names of the arguments that it is given, as the object's `given`."""
    names = list(signature(init).parameters)[1:]

    @wraps(init)
    def noted(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        vars(self)["given"] = given_names({**dict(zip(names, args, strict=False)), **kwargs})
        init(self, *args, **kwargs)

    return noted


def given_names(settings: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of settings that are given; of those that are a mapping, also those in it: ``name['key']``."""
    inner = {setting_name(name, key) for name, value in settings.items() if isinstance(value, Mapping) for key in value}
    return frozenset(settings) | inner


def setting_name(name: str, key: str) -> str:
    """Return what a setting within another one is called."""
    return f"{name}[{key!r}]"
