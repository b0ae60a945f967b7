"""What operators have changed themselves, in this process: that is no setting, and no reason to refuse a resume.

An object is known by itself, and a function, or a class with the globals that its methods use, by its name: the next
run may well get a new one that shares what the last one has changed.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable
from types import MethodType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_ATTRIBUTE = "attribute "

_objects: dict[int, tuple[weakref.ref[Any], set[str]]] = {}  # by id: an operator need not be hashable
_named: dict[tuple[str, str], set[str]] = {}


def subject_of(operator: Any) -> Any:
    """Return what the user gave: the function or the object within the engine's wrappers."""
    inner = getattr(operator, "operator", None) or getattr(operator, "func", None)
    is_wrapper = type(operator).__module__.partition(".")[0] == _PACKAGE and inner is not None
    return subject_of(inner) if is_wrapper else operator


def note_own_state(operator: Any, names: Iterable[str]) -> None:
    """Take note, for this process, that an operator has changed some of its parts itself. Any thread may call it."""
    holder = _holder(operator)
    for name in names:
        if name.startswith(_ATTRIBUTE):
            with contextlib.suppress(TypeError):  # what cannot be referred to weakly is not remembered
                _names_of(holder).add(name)
        else:
            _named.setdefault(_name_of(operator), set()).add(name)


def own_state_of(operator: Any) -> frozenset[str]:
    """Return the parts that an operator has changed itself in this process."""
    ref, names = _objects.get(id(_holder(operator)), (None, ()))
    attributes = frozenset(names) if ref is not None and ref() is not None else frozenset()
    return attributes | _named.get(_name_of(operator), set())


def _names_of(holder: Any) -> set[str]:
    number = id(holder)
    if number not in _objects:
        _objects[number] = weakref.ref(holder, lambda _: _objects.pop(number, None)), set()
    return _objects[number][1]


def _holder(operator: Any) -> Any:
    subject = subject_of(operator)
    return subject.__self__ if isinstance(subject, MethodType) else subject


def _name_of(operator: Any) -> tuple[str, str]:
    subject = subject_of(operator)
    while hasattr(subject, "func"):  # functools.partial
        subject = subject.func
    named = subject if hasattr(subject, "__qualname__") else type(subject)
    return str(getattr(named, "__module__", "")), str(named.__qualname__)
