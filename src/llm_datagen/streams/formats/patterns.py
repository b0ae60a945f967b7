"""Patterns of paths that no file system resolves: ``data/**/train-*.parquet``. Paths have slashes, everywhere."""

from __future__ import annotations

import re
from functools import lru_cache

_MAGIC = re.compile(r"[*[]")
_TOKEN = re.compile(r"(?:^|(?<=/))\*\*/|\*+|\[!?\]?[^]]*\]|.", re.DOTALL)


def has_magic(text: str) -> bool:
    """Return whether a text is a pattern."""
    return _MAGIC.search(text) is not None


def fixed_part(pattern: str) -> str:
    """Return the folder, with its slash, that a pattern begins with, before anything that may be several things."""
    found = _MAGIC.search(pattern)
    return pattern[: pattern.rfind("/", 0, found.start()) + 1] if found else pattern


def matches(path: str, pattern: str) -> bool:
    """Return whether a path is meant by a pattern.

    ``*`` stands for anything within a name, ``**/`` for any folders, ``[…]`` for one of some signs; a pattern that ends
    with ``**`` means all below. As of a file system, ``*`` is not the beginning of a name with a dot.
    """
    return _compiled(pattern).fullmatch(path) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.endswith("**"):
        pattern += "/*"
    parts = []
    for token in _TOKEN.findall(pattern):
        if token == "**/":
            parts.append(r"(?:[^/.][^/]*/)*")
        elif token.startswith("*"):
            is_first = not parts or parts[-1].endswith("/") or parts[-1].endswith("/)*")
            parts.append(r"(?!\.)[^/]*" if is_first else "[^/]*")
        elif token.startswith("[") and len(token) > 2:
            inner = token[1:-1].replace("\\", r"\\")
            parts.append(f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]")
        else:
            parts.append(token if token == "/" else re.escape(token))
    return re.compile("".join(parts), re.DOTALL)
