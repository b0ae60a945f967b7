"""Causes of failed rows: the same error is one cause, whatever row it names."""

from __future__ import annotations

import re
from typing import Any

_SHAPE_CHARS = 400
_VARYING = re.compile(r"""'[^'\n]*'|"[^"\n]*"|`[^`\n]*`|\d[\w.,]*""")
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]*)", line (?P<line>\d+), in .*\n(?:    (?P<code>.*)\n)?', re.MULTILINE)


def shape_of(text: str) -> str:
    """Return a message without what varies from row to row: numbers, ids, and what is quoted.

    A message that is nothing else, such as that of a KeyError, is itself.
    """
    begin = text[:_SHAPE_CHARS]
    shape = _VARYING.sub("…", begin)
    return shape if any(sign.isalpha() for sign in shape) else begin


def reason_of(error: dict[str, Any]) -> str:
    """Return the message of an error; of one without a message, where it was raised."""
    text = str(error["text"])
    if text.strip():
        return text
    frames = list(_FRAME.finditer(str(error.get("trace", ""))))
    if not frames:
        return "(no message)"
    last = frames[-1]
    code = f": {last['code'].strip()}" if last["code"] else ""
    return f"(no message) at {last['file']}, line {last['line']}{code}"
