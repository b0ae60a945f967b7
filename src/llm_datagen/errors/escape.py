"""Escaping of foreign text for terminals and logs: no control characters, nothing that looks like what it is not.

Characters that are not printable are written as Python and JSON write them: control characters (ESC, C1, DEL), marks
that change the direction of writing, invisible characters, lone surrogates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


def escape(text: str, *, keep: str = "\n\t") -> str:
    r"""Return `text` with every character that is not printable escaped, such as ``\x1b`` and ``\u202e``.

    Args:
        text: any text.
        keep: characters that stay although they are not printable.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def escape_line(text: str) -> str:
    r"""Return `text` as one line: line breaks and tabs are escaped, too."""
    return escape(text, keep="")


def escape_json(text: str) -> str:
    r"""Return equal JSON with every character that is not printable escaped, such as ``\u001b``.

    Args:
        text: JSON. Outside of its strings, all characters are ASCII.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


def shortened(text: str, chars: int) -> str:
    """Return `text` as one line of at most so many characters, cut with an ellipsis."""
    line = escape_line(text[: chars + 1])
    return line if len(line) <= chars and len(text) <= chars else f"{line[: chars - 1]}…"


def listed(names: Sequence[str], most: int) -> str:
    """Return at most `most` names for a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
