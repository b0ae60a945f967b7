"""Advice in errors: function calls for programs, options for the command line; what a wrong name may have meant."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping

_AS_OPTIONS = {
    re.compile(r"\bif_exists='(\w+)'"): r"run --if-exists \1",
    re.compile(r"\bmerge='(\w+)'"): r"--merge \1",
    re.compile(r"\bon_change='accept'"): "--accept-changes",
    re.compile(r"\bon_change='(re\w+)'"): r"--\1",
}
"""How arguments of a program, as errors have them, are given on the command line."""

_typed_in: list[str] = []
"""The working directories in which the commands were typed that are under way: one, or none of a program."""


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Advise options within this block, in the whole process: errors come from any thread."""
    try:
        here = os.getcwd()  # noqa: PTH109 - text
    except OSError:  # it was removed
        here = ""
    _typed_in.append(here)
    try:
        yield
    finally:
        _typed_in.pop()


def typed_in() -> str | None:
    """Return the directory in which the command was typed; None in a program, or when it is not there."""
    return (_typed_in[-1] or None) if _typed_in else None


def advice(called: str, typed: str) -> str:
    """Return what to do, as the reader does it.

    Args:
        called: for a program.
        typed: for the command line.
    """
    return typed if _typed_in else called


def as_typed(text: str) -> str:
    """Return an error as the command line shows it: with its options where it advises arguments of a program.

    Most errors come from layers that know neither, or from other processes.
    """
    for called, typed_so in _AS_OPTIONS.items():
        text = called.sub(typed_so, text)
    return text


def did_you_mean(name: str, known: Iterable[str], elsewhere: Mapping[str, str] | None = None) -> str:
    """Return a hint at what was meant: the nearest of the known names, or all of them.

    Args:
        name: what is not known.
        known: what is.
        elsewhere: what to do with a name that is known, but elsewhere.
    """
    if elsewhere and name in elsewhere:
        return elsewhere[name]
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known are {', '.join(names)}" if names else "there are none"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like one that is not known; None when none is like it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def a_kind(cls: type) -> str:
    """Return the name of a class with its article: "a dict", "an int"."""
    return f"{'an' if cls.__name__[0].lower() in 'aeio' else 'a'} {cls.__name__}"
