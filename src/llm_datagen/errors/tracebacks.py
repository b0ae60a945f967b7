"""Tracebacks as text: the same few again and again, when rows fail one after the other."""

from __future__ import annotations

import traceback
from types import CodeType, TracebackType

_KNOWN = 256
"""Stacks whose text is remembered."""

_CAUSES = 4
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE = "\nDuring handling of the above exception, another exception occurred:\n\n"
_SPECIAL = (SyntaxError, NameError, AttributeError, ImportError, BaseExceptionGroup)

_stacks: dict[tuple[tuple[CodeType, int], ...], str] = {}


def trace_of(error: BaseException) -> str:
    """Return the traceback of an exception, as Python formats it. Any thread.

    The text of a stack is made once for each place that raises: that takes far longer than a cheap call.
    An exception with notes, with a suggestion for a misspelt name, or with many causes is formatted as a whole.
    """
    parts: list[str] = []
    at: BaseException | None = error
    for _ in range(_CAUSES):
        if at is None:
            return "".join(reversed(parts))
        if isinstance(at, _SPECIAL) or getattr(at, "__notes__", None):
            break
        parts += [_last_line(at), _stack(at.__traceback__)]
        if at.__cause__ is not None:
            at = at.__cause__
            parts.append(_CAUSED)
        elif at.__context__ is not None and not at.__suppress_context__:
            at = at.__context__
            parts.append(_MEANWHILE)
        else:
            at = None
    return "".join(traceback.format_exception(error))


def _last_line(error: BaseException) -> str:
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an exception of foreign code may not even have a text
        return "".join(traceback.format_exception_only(error))
    return f"{name}: {text}\n" if text else f"{name}\n"


def _stack(trace: TracebackType | None) -> str:
    """Return the text of a stack, with its heading."""
    if trace is None:
        return ""
    places: list[tuple[CodeType, int]] = []
    at: TracebackType | None = trace
    while at is not None:
        places.append((at.tb_frame.f_code, at.tb_lasti))
        at = at.tb_next
    key = tuple(places)
    text = _stacks.get(key)
    if text is None:
        if len(_stacks) >= _KNOWN:
            _stacks.clear()
        text = _stacks[key] = f"Traceback (most recent call last):\n{''.join(traceback.format_tb(trace))}"
    return text
