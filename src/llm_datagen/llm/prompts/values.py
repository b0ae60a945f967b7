"""How a value of a row is written into a prompt: as the row's own JSON would have it, texts without quotes."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Literal

from jinja2 import Undefined
from jinja2.runtime import LoopContext, TemplateReference

from llm_datagen.errors.advice import a_kind
from llm_datagen.llm.prompts.bounds import TemplateRefused, bounded, check_json_indent

Null = Literal["empty", "error"]
"""What is written for a null: nothing; or the row fails."""

_OWN = {LoopContext: "loop", TemplateReference: "self"}
_VIEWS = (ItemsView, KeysView, ValuesView)


def text_of(value: Any, null: Null) -> str:
    """Return what a template writes for `value`.

    A text is written as it is, a number as Python writes it, true and false as JSON has them, an object or a list as
    JSON; of other types what their own ``__str__`` says.

    Raises:
        TemplateRefused: when it is a method, a generator, bytes, or a null where that is an error.
        jinja2.UndefinedError: when it is undefined.
    """
    if isinstance(value, str | Undefined):
        return str(value)
    if value is None:
        if null == "error":
            raise TemplateRefused(
                'a null would be written: say what stands for it, {{ field or "none" }}, or set null="empty"'
            )
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (Mapping, list, tuple, *_VIEWS)):
        return json_of(value)
    if not isinstance(value, int | float):
        _check_writable(value)
    return str(value)


def json_of(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON: plain UTF-8, nothing escaped for HTML, keys in their order.

    Raises:
        TemplateRefused: when it would be too large, or holds what JSON has no form for.
        jinja2.UndefinedError: when it is, or holds, something undefined.
    """
    check_json_indent(indent)
    encoder = json.JSONEncoder(ensure_ascii=False, indent=indent, default=_plain)
    return "".join(bounded(encoder.iterencode(value), "JSON"))


def _plain(value: Any) -> Any:
    if isinstance(value, Undefined):
        str(value)  # raises what the name is
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, _VIEWS):
        return list(value)
    _check_writable(value)
    raise TemplateRefused(f"a value of the type {type(value).__name__} has no form in JSON")


def _check_writable(value: Any) -> None:
    kind: Any = type(value)
    if kind in _OWN:
        raise TemplateRefused(
            f'{_OWN[kind]} is a name of Jinja2\'s own here: a field of that name is row["{_OWN[kind]}"]'
        )
    if callable(value) and hasattr(value, "__name__"):
        # In Jinja2, joiner is the class Joiner, and range the function safe_range of the sandbox.
        name = (value.__name__.lower() if isinstance(value, type) else value.__name__).removeprefix("safe_")
        what = "the function" if getattr(value, "__self__", None) is None else "the method"
        raise TemplateRefused(
            f"{what} {name!r} would be written, as the row has no field of that name there: "
            f"call it, {name}(…), or correct the name"
        )
    if isinstance(value, Iterator):
        raise TemplateRefused(f"{a_kind(kind)} would be written, not what it yields: add | list or | join")
    if callable(value) or kind.__str__ is object.__str__ or isinstance(value, bytes | bytearray):
        raise TemplateRefused(f"a value of the type {kind.__name__} has no text: write what of it is meant")
