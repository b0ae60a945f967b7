"""Constructors whose arguments are settings: a name that they do not take is refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean

T = TypeVar("T")


def refuses_unknown(cls: type[T]) -> type[T]:
    """Let the constructor of a class raise a ConfigError in place of Python's TypeError.

    It does so on an argument that the class does not take, with the nearest that it does; on one that is missing, or is
    given twice; and on positional arguments that have to be given by name.
    """
    init = cls.__init__
    taken = signature(init)

    @wraps(init)
    def taking(self: Any, /, *args: Any, **kwargs: Any) -> None:
        try:
            taken.bind(self, *args, **kwargs)
        except TypeError:
            raise ConfigError(_refusal(type(self).__name__, taken, args, kwargs)) from None
        init(self, *args, **kwargs)

    cls.__init__ = taking  # type: ignore[assignment, method-assign]
    return cls


def _refusal(owner: str, taken: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    parameters = list(taken.parameters.values())[1:]
    names = [each.name for each in parameters]
    for name in kwargs:
        if name not in names:
            return f"{owner} has no setting {name!r}; {did_you_mean(name, names)}"
    positional = [each.name for each in parameters if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
    if len(args) > len(positional):
        return f"{owner} takes its settings by name only: {', '.join(names[len(positional) :])}"
    given = {*positional[: len(args)], *kwargs}
    for each in parameters:
        if each.name not in given and each.default is Parameter.empty:
            return f"{owner} must say {each.name!r}"
    return f"{owner} is given {', '.join(name for name in positional[: len(args)] if name in kwargs)} twice"
