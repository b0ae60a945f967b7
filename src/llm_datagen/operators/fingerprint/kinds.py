"""What kind of thing something is, without running any of it."""

from __future__ import annotations

import contextlib
import functools
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType
from typing import Any

SHORT = 64
"""Characters of a value that is kept as it is, at most."""


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the attributes of an object, those in slots too; runs no property."""
    attributes: dict[str, Any] = dict(getattr(thing, "__dict__", {}))
    for cls in type(thing).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(AttributeError):
                attributes.setdefault(name, getattr(thing, name))
    return attributes


def is_function(thing: Any) -> bool:
    """Return whether something is a function, or wraps one."""
    kinds = FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, functools.partial
    is_wrapper = not isinstance(thing, type) and "__wrapped__" in getattr(thing, "__dict__", ())
    return isinstance(thing, kinds) or is_wrapper


def is_dunder(name: str) -> bool:
    """Return whether a name is one of Python's own."""
    return name.startswith("__") and name.endswith("__")


def kind_of(cls: type) -> str:
    """Return the name of a class, with its package: the module within that is not for users to know."""
    return f"{cls.__module__.partition('.')[0]}: {cls.__qualname__}"[:SHORT]


def type_name(kind: Any) -> str:
    """Return the name of what an annotation says."""
    return kind if isinstance(kind, str) else kind.__qualname__ if isinstance(kind, type) else repr(kind)
