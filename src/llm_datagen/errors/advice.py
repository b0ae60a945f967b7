"""Advice in errors for its reader: function calls for programs, options for the command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_typing = [0]


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Advise options within this block, in the whole process: errors come from any thread."""
    _typing[0] += 1
    try:
        yield
    finally:
        _typing[0] -= 1


def advice(called: str, typed: str) -> str:
    """Return what to do, as the reader does it.

    Args:
        called: for a program.
        typed: for the command line.
    """
    return typed if _typing[0] else called
