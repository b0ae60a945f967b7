"""Who reads an error: a program's author, who calls functions, or somebody at the command line, who types options."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_typing = [0]


@contextlib.contextmanager
def typed() -> Iterator[None]:
    """Have what is advised within be what can be typed. Errors come from any thread, so it holds for the process."""
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
