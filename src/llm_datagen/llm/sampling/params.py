"""Fields of a request that are templates over the row: ``{"temperature": "{{ t }}"}``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.config import shown
from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.prompts.native import SENT_AS_IT_IS, NativeTemplate, has_names
from llm_datagen.llm.prompts.template import row_label
from llm_datagen.llm.prompts.values import Null
from llm_datagen.streams.formats.json_text import dumps

LIMITS = ("max_tokens", "max_completion_tokens")
"""Params that a budget has to know before a call."""
_DEFINITIONS = ("tools", "functions", "response_format")
"""Params that say the same of every row, also where their texts look like templates."""
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_NAME = r"[-+]?\s*[^\W\d]\w*"
_BROKEN = re.compile(rf"\{{\{{{_NAME}|\{{%{_NAME}|\s*\{{{_NAME}[^{{}}]*\}}\}}\s*$")
"""What begins as a template and does not end as one, ``{{ t }``; or the other way round, as the whole text."""


class Params:
    """The fields of the requests, of which some are made of each row.

    A text is a template when it names a variable, ``{{ t }}``; any other one stays as it is. A template that is one
    expression and nothing else gives the value itself: a number stays a number. A null leaves the field out.

    Args:
        given: the fields, with templates also within objects and lists.
        null: whether a null is one (``"empty"``), or the row fails (``"error"``).
        needs_limit: whether a limit of the answer's tokens that is made of the row has to be a whole number.

    Attributes:
        fixed: the fields without those that are made of the row.

    Raises:
        ConfigError: when a template cannot be used.
    """

    def __init__(self, given: Mapping[str, Any], *, null: Null = "empty", needs_limit: bool = False) -> None:
        self._compiled = {
            name: compiled
            for name, value in given.items()
            if name not in _DEFINITIONS and (compiled := _compiled(value, name, null)) is not value
        }
        self.fixed = {name: value for name, value in given.items() if name not in self._compiled}
        self._needs_limit = needs_limit

    @property
    def names(self) -> Iterator[str]:
        """The fields that are made of the row."""
        return iter(self._compiled)

    def of(self, item: Any) -> Mapping[str, Any]:
        """Return the fields for a row.

        Raises:
            PromptError: naming the row and the field, when one cannot be made.
        """
        if not self._compiled:
            return self.fixed
        made = {name: _made(value, item) for name, value in self._compiled.items()}
        for name in LIMITS:
            if self._needs_limit and name in made:
                _check_limit(name, made[name], item)
        return {**self.fixed, **{name: value for name, value in made.items() if value is not None}}


def has_template(value: Any) -> bool:
    """Return whether there is a template in JSON data.

    Raises:
        ConfigError: when there is something that looks like one, and is none.
    """
    return _compiled(value, "params", "empty") is not value


def _compiled(value: Any, path: str, null: Null) -> Any:
    """Return a value with its templates in place of their texts; the value itself when it has none."""
    if isinstance(value, str):
        if not _TEMPLATE.search(value):
            _check_whole(value, path)
            return value
        if not has_names(value, f"the param {path!r}"):
            return value
        return NativeTemplate(value, label=f"param {path!r}", null=null)
    if isinstance(value, Mapping):
        parts = {key: _compiled(part, f"{path}.{key}", null) for key, part in value.items()}
        return parts if any(parts[key] is not value[key] for key in parts) else value
    if isinstance(value, list | tuple):
        items = [_compiled(part, f"{path}[{number}]", null) for number, part in enumerate(value)]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def _check_whole(text: str, path: str) -> None:
    """Check that a text without a template does not look like one with a brace too few: it would be sent as it is."""
    broken = _BROKEN.search(text) if "{{" in text or "{%" in text else _BROKEN.match(text)
    if broken is not None:
        raise ConfigError(
            f"the param {path!r} is not a Jinja2 template, and looks like one: {shown(text)}; write {{{{ name }}}}, "
            f"with two braces on each side; {SENT_AS_IT_IS}"
        )


def _made(value: Any, item: Any) -> Any:
    if isinstance(value, NativeTemplate):
        made = value.of(item)
        try:
            dumps(made)
            if not isinstance(made, str | int):
                json.dumps(made, allow_nan=False)  # the other one writes null for what is no number
        except (TypeError, ValueError) as error:
            raise PromptError(f"the {value.label} of {row_label(item)} is no JSON data: {error}") from error
        return made
    if isinstance(value, Mapping):
        return {key: _made(part, item) for key, part in value.items()}
    return [_made(part, item) for part in value] if isinstance(value, list) else value


def _check_limit(name: str, value: Any, item: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        kind = "null" if value is None else type(value).__name__
        raise PromptError(
            f"the param {name!r} of {row_label(item)} must be a whole number above 0, as budget needs it, and is "
            f"{value if isinstance(value, int | float) else kind}: write {{{{ … | int }}}} for a text"
        )


def check_no_template(params: Mapping[str, Any], where: str) -> None:
    """Check that the params of an endpoint have no templates: those are of the operator alone.

    Raises:
        ConfigError: when one has.
    """
    for name, value in params.items():
        if name not in _DEFINITIONS and has_template(value):
            raise ConfigError(f"{where} may have no template in its params, as {name!r} is: give it to the operator")
