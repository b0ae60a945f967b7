"""Foreign text, made fit for a person's eyes: nothing in it can steer a terminal, or look like what it is not.

What is not printable is written as Python and JSON write it: control characters (ESC, C1, DEL), marks that turn the
direction of writing, invisible signs, lone surrogates.
"""

from __future__ import annotations

import json
from collections.abc import Sequence


def escape(text: str, *, keep: str = "\n\t") -> str:
    r"""Return `text` with every sign that is not printable escaped, such as ``\x1b`` and ``\u202e``.

    Args:
        text: any text.
        keep: signs that stay although they are not printable.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else ascii(sign)[1:-1] for sign in text)


def escape_line(text: str) -> str:
    r"""Return `text` as one line: line breaks and tabs are escaped, too."""
    return escape(text, keep="")


def escape_json(text: str) -> str:
    r"""Return JSON that means the same, with every sign that is not printable escaped, such as ``\u001b``.

    Args:
        text: JSON. Outside of its strings there are no other signs than ASCII.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)


def shortened(text: str, chars: int) -> str:
    """Return `text` as one line of at most so many characters: what there is more is cut, with an ellipsis."""
    line = escape_line(text[: chars + 1])
    return line if len(line) <= chars and len(text) <= chars else f"{line[: chars - 1]}…"


def listed(names: Sequence[str], most: int) -> str:
    """Return names for a sentence: `most` of them at most, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
