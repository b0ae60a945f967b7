"""Parts that operators have changed themselves in this process: no edit, and no reason to refuse a resume.

The run state gets the values before the run, as another process starts with these.

An object is recognised by its identity; a function, or a class with the globals that its methods use, by its name and
its code, as the next run may get a new one that shares what the last one has changed.
"""

from __future__ import annotations

import contextlib
import weakref
from types import MethodType
from typing import Any

from llm_datagen.operators.fingerprint.code import is_code_part
from llm_datagen.operators.fingerprint.user_code import PACKAGE
from llm_datagen.operators.fingerprint.walk import Parts, parts_of

_ATTRIBUTE = "attribute "

Before = dict[str, tuple[str | None, ...]]
"""By the name of a part, its value before the run; empty for a part that was not there."""

_objects: dict[int, tuple[weakref.ref[Any], Before]] = {}  # by id: an operator need not be hashable
_named: dict[tuple[str, str], dict[tuple[str, ...], Before]] = {}  # by the name, then by the code


def subject_of(operator: Any) -> Any:
    """Return the user's function or object within the engine's wrappers."""
    inner = getattr(operator, "operator", None) or getattr(operator, "func", None)
    is_wrapper = type(operator).__module__.partition(".")[0] == PACKAGE and inner is not None
    return subject_of(inner) if is_wrapper else operator


def note_own_state(operator: Any, changed: Before) -> None:
    """Record, for this process, that an operator has changed some of its parts itself. Any thread may call it."""
    holder = _holder(operator)
    for name, before in changed.items():
        if name.startswith(_ATTRIBUTE):
            with contextlib.suppress(TypeError):  # what cannot be referred to weakly is not remembered
                _of_object(holder).setdefault(name, before)
        else:
            _named.setdefault(_name_of(operator), {}).setdefault(_code_of(operator), {}).setdefault(name, before)


def without_own_state(operator: Any, parts: Parts) -> Parts:
    """Return the parts of an operator as they were before it changed some of them itself in this process."""
    ref, changed = _objects.get(id(_holder(operator)), (None, {}))
    known = dict(changed) if ref is not None and ref() is not None else {}
    named = _named.get(_name_of(operator))
    if named:
        known.update(named.get(_code_of(operator), {}))
    found = dict(parts)
    for name, before in known.items():
        if before:
            found[name] = before[0]
        else:
            found.pop(name, None)
    return found


def _of_object(holder: Any) -> Before:
    number = id(holder)
    if number not in _objects:
        _objects[number] = weakref.ref(holder, lambda _: _objects.pop(number, None)), {}
    return _objects[number][1]


def _code_of(operator: Any) -> tuple[str, ...]:
    """Return the digests of an operator's bytecode, which one process can always make."""
    parts = parts_of(subject_of(operator))
    return tuple(value.split()[-1] for name, value in parts.items() if value and is_code_part(name))


def _holder(operator: Any) -> Any:
    subject = subject_of(operator)
    return subject.__self__ if isinstance(subject, MethodType) else subject


def _name_of(operator: Any) -> tuple[str, str]:
    subject = subject_of(operator)
    while hasattr(subject, "func"):  # functools.partial
        subject = subject.func
    named = subject if hasattr(subject, "__qualname__") else type(subject)
    return str(getattr(named, "__module__", "")), str(named.__qualname__)
