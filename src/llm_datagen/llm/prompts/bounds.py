"""What a template would make too large is refused before it is made: ``{{ "x" * n }}`` takes no memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from typing import Any

MAX_PROMPT_CHARS = 10 * 1024 * 1024
"""The most characters of a prompt, and characters or items of any value that a template makes."""

_MAX_BITS = 65_536
_MAX_JSON_INDENT = 100
_PRINTF = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d*)(?:\.(\*|\d*))?")


class TemplateRefused(Exception):  # noqa: N818 - internal
    """Raised within a template; becomes a PromptError that names the row.

    The text says what is wrong, without the values of the row.
    """


def check_size(size: int, what: str) -> None:
    """Refuse more than `MAX_PROMPT_CHARS` characters or items.

    Raises:
        TemplateRefused: naming `what` would be too large.
    """
    if size > MAX_PROMPT_CHARS:
        raise TemplateRefused(f"{what} would give more than {MAX_PROMPT_CHARS:,} characters or items")


def bounded(pieces: Iterable[str], what: str) -> Iterator[str]:
    """Yield the pieces of a text as long as they are not too many characters together.

    Raises:
        TemplateRefused: naming `what` they would give.
    """
    size = 0
    for piece in pieces:
        size += len(piece)
        check_size(size, what)
        yield piece


def concatenated(pieces: Iterable[str]) -> str:
    """Return the pieces as one text; what Jinja2 calls for macros and blocks."""
    return "".join(bounded(pieces, "a macro or block"))


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse ``left operator right`` when the result would be too large.

    Raises:
        TemplateRefused: naming the operator.
    """
    what = f"the operator {operator}"
    if operator == "%" and isinstance(left, str):
        for widths in _PRINTF.findall(left):
            _check_widths(widths, what)
    elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
        check_size(len(left) + len(right), what)
    elif operator == "*" and isinstance(left, Sequence) and isinstance(right, int):
        check_size(len(left) * right, what)
    elif operator == "*" and isinstance(left, int) and isinstance(right, Sequence):
        check_size(left * len(right), what)
    elif isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
        if operator in {"*", "**"} and abs(left) > 1 and bits > _MAX_BITS:
            raise TemplateRefused(f"{what} would give a number of more than {_MAX_BITS:,} bits")


def check_method(text: str | bytes, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
    """Refuse the call of a method of a text when the result would be too large.

    Returns:
        The arguments to call it with: an iterator that had to be read is a list.

    Raises:
        TemplateRefused: naming the method.
    """
    what = f"the method {name}"
    match name, args:
        case (("ljust" | "rjust" | "center" | "zfill"), [int(width), *_]):
            check_size(width, what)
        case "expandtabs", _:
            width = next(chain(args, kwargs.values()), 8)
            check_size(len(text) * max(int(width), 1), what)
        case "replace", [old, new, *_]:
            check_size(_replaced(text, old, new), what)
        case "translate", [Mapping() as table, *_]:
            longest = max((len(value) for value in table.values() if isinstance(value, str)), default=1)
            check_size(len(text) * longest, what)
        case "join", [pieces, *_]:
            return [_checked_pieces(text, pieces, what)]
    return args


def _checked_pieces(separator: Any, pieces: Iterable[Any], what: str) -> list[Any]:
    found, size = [], 0
    for piece in pieces:
        size += len(separator) + (len(piece) if isinstance(piece, Sized) else 0)
        check_size(size, what)
        found.append(piece)
    return found


def _replaced(text: Any, old: Any, new: Any) -> int:
    """Return the length of `text` with every `old` replaced."""
    if not isinstance(text, bytes):
        old, new = str(old), str(new)  # the filter takes numbers, too
    return len(text) + int(text.count(old)) * (len(new) - len(old))


def check_format_spec(spec: str) -> None:
    """Refuse a width of ``str.format`` that is too large.

    Raises:
        TemplateRefused: naming it.
    """
    _check_widths(re.findall(r"\d+", spec), "the width of a format")


def _check_widths(widths: Iterable[str], what: str) -> None:
    for width in widths:
        if width == "*":
            raise TemplateRefused(f"{what} takes its width from a value (*): write the width itself")
        check_size(int(width[:20] or 0), what)


def _check_center(value: str, width: int = 80) -> None:
    check_size(width, "the filter center")


def _check_indent(value: str, width: int | str = 4, *_: Any, **__: Any) -> None:
    each = width if isinstance(width, int) else len(width)
    check_size(len(value) + (value.count("\n") + 1) * each, "the filter indent")


def _check_replace(value: str, old: str, new: str, *_: Any, **__: Any) -> None:
    check_size(_replaced(value, old, new), "the filter replace")


def _check_wordwrap(value: str, width: int = 79, *args: Any, wrapstring: str | None = None, **_: Any) -> None:
    wrap = args[1] if len(args) > 1 else wrapstring
    lines = len(value) // max(width, 1) + value.count("\n") + value.count(" ") + 1
    check_size(len(value) + lines * len(wrap or "\n"), "the filter wordwrap")


def _check_batch(value: Any, linecount: int, *_: Any, **__: Any) -> None:
    check_size(linecount, "the filter batch")


def _check_slice(value: Any, slices: int, *_: Any, **__: Any) -> None:
    check_size(slices, "the filter slice")


CHECKS: Mapping[str, Callable[..., None]] = {
    "center": _check_center,
    "indent": _check_indent,
    "replace": _check_replace,
    "wordwrap": _check_wordwrap,
    "batch": _check_batch,
    "slice": _check_slice,
}
"""What looks at the arguments of a filter before it is called, by its name."""


def check_lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> None:
    """Refuse a text of Jinja2's ``lipsum`` that is too large.

    Raises:
        TemplateRefused: naming it.
    """
    check_size(n * max * 12, "lipsum")


def check_json_indent(indent: int | None) -> None:
    """Refuse an indentation that no reader wants.

    Raises:
        TemplateRefused: naming it.
    """
    if indent is not None and not 0 <= indent <= _MAX_JSON_INDENT:
        raise TemplateRefused(f"tojson takes an indent from 0 to {_MAX_JSON_INDENT}")
