"""What operators have changed themselves, in this process: that is no setting, and no reason to refuse a resume."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable
from types import MethodType
from typing import Any

_PACKAGE = __name__.partition(".")[0]

_known: dict[int, tuple[weakref.ref[Any], set[str]]] = {}  # by id: an operator need not be hashable


def subject_of(operator: Any) -> Any:
    """Return what the user gave: the function or the object within the engine's wrappers."""
    inner = getattr(operator, "operator", None) or getattr(operator, "func", None)
    is_wrapper = type(operator).__module__.partition(".")[0] == _PACKAGE and inner is not None
    return subject_of(inner) if is_wrapper else operator


def note_own_state(operator: Any, names: Iterable[str]) -> None:
    """Take note, for this process, that an operator has changed some of its parts itself. Any thread may call it."""
    holder = _holder(operator)
    with contextlib.suppress(TypeError):  # what cannot be referred to weakly is not remembered
        number = id(holder)
        if number not in _known:
            _known[number] = weakref.ref(holder, lambda _: _known.pop(number, None)), set()
        _known[number][1].update(names)


def own_state_of(operator: Any) -> frozenset[str]:
    """Return the parts that an operator has changed itself in this process."""
    ref, names = _known.get(id(_holder(operator)), (None, ()))
    return frozenset(names) if ref is not None and ref() is not None else frozenset()


def _holder(operator: Any) -> Any:
    subject = subject_of(operator)
    return subject.__self__ if isinstance(subject, MethodType) else subject
