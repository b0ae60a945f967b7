"""Prompts: Jinja2 templates whose variables are the fields of a row, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import PromptError

# Sandboxed and immutable: a template that came from elsewhere can neither reach into Python nor change a row.
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
# Jinja2's own globals (range, dict, …) would stand in for a field of that name that a row lacks.
_ENVIRONMENT.globals.clear()


class Prompt:
    """A template, compiled once.

    Args:
        text: the Jinja2 source, such as ``"Translate: {{ sentence }}"``.
        label: what the template is called in errors, such as ``"prompt"`` or ``"system"``.
        may_be_blank: whether nothing may come out.

    Raises:
        ConfigError: when `text` is not a text or not a Jinja2 template.
    """

    def __init__(self, text: str, *, label: str = "prompt", may_be_blank: bool = False) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{label} must be a text that is not empty, not {text!r}")
        self.label = label
        self._may_be_blank = may_be_blank
        try:
            self._template = _ENVIRONMENT.from_string(text)
        except TemplateSyntaxError as error:
            raise ConfigError(f"{label} is not a Jinja2 template: line {error.lineno}: {error}") from error

    def render(self, item: Any) -> str:
        """Return the prompt of one item.

        Args:
            item: a row, whose fields are the variables; anything else is the variable ``data``.

        Raises:
            PromptError: naming the row and, for an undefined name, the name; never the row's values.
        """
        fields = fields_of(item)
        try:
            text = self._template.render(fields)
        except UndefinedError as error:
            known = ", ".join(map(str, fields)) or "no fields"
            raise PromptError(
                f"the {self.label} of {row_label(item)} uses an undefined name: {error}; the row has: {known}"
            ) from error
        except Exception as error:  # a filter or a method may raise anything; jinja2 lets it through
            # Its message may quote the row's values: they stay in the cause.
            raise PromptError(
                f"the {self.label} of {row_label(item)} cannot be made: {type(error).__name__} in the template"
            ) from error
        if not text.strip() and not self._may_be_blank:
            raise PromptError(f"the {self.label} of {row_label(item)} is empty: a field that it uses is blank")
        return text


def fields_of(item: Any) -> Mapping[str, Any]:
    """Return the fields of `item`; an item that is not an object has one, ``data``."""
    return item if isinstance(item, Mapping) else {"data": item}


def row_label(item: Any) -> str:
    """Return how errors name `item`: by its id."""
    row_id = item.get("_i") if isinstance(item, Mapping) else None
    return "a row without an id" if row_id is None else f"row {row_id}"
