"""Prompts: Jinja2 templates whose variables are the fields of a row, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from jinja2 import TemplateSyntaxError, UndefinedError, nodes

from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import shortened
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.prompts.bounds import TemplateRefused, bounded
from llm_datagen.llm.prompts.environment import environment
from llm_datagen.llm.prompts.plain import plain_parts, plain_text
from llm_datagen.llm.prompts.values import Null

ROW = "row"
"""The variable that is the whole row, so that fields are reached whose names are no identifiers: ``row["user-id"]``."""

_ID_CHARS = 100
_QUOTED = re.compile(r"'([^']*)'")
_SPACED = re.compile(r"\{\{-?\s*(\w+(?: +\w+)+)\s*[|}-]")


class Prompt:
    """A template, compiled once.

    Args:
        text: the Jinja2 source, such as ``"Translate: {{ sentence }}"``.
        label: what the template is called in errors, such as ``"prompt"`` or ``"system"``.
        may_be_blank: whether nothing may come out.
        null: what is written for a null: nothing ("empty"), or the row fails ("error").

    Attributes:
        beginning: the text that it begins with, whatever the row.
        is_fixed: whether that is all of it.

    Raises:
        ConfigError: when `text` is not a text or not a Jinja2 template.
    """

    def __init__(self, text: str, *, label: str = "prompt", may_be_blank: bool = False, null: Null = "empty") -> None:
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{label} must be a text that is not empty, not {text!r}")
        self.label = label
        self._may_be_blank = may_be_blank
        self._source = text, null
        try:
            tree = environment(null).parse(text)
            self._template = environment(null).from_string(tree)
        except TemplateSyntaxError as error:
            hint = _hint_at_spaces(text)
            raise ConfigError(f"{label} is not a Jinja2 template: line {error.lineno}: {error}{hint}") from error
        self.beginning, self.is_fixed = _beginning(tree)
        # A row with a field `row`: only a template that reaches for it shows that it means the whole row by that name.
        self._may_mean_a_field = _uses(tree, ROW) and not _reaches(tree, ROW)
        self._plain = None if self._may_mean_a_field else plain_parts(tree)

    def __reduce__(self) -> tuple[Any, ...]:
        return _compiled, (*self._source, self.label, self._may_be_blank)  # a template itself cannot be pickled

    def render(self, item: Any) -> str:
        """Return the prompt of one item.

        Args:
            item: a row, whose fields are the variables; anything else is the variable ``data``. ``row`` is the item.

        Raises:
            PromptError: naming the row and, for an undefined name, the name; never the row's values.
        """
        fields = fields_of(item)
        if self._plain is not None and (text := plain_text(self._plain, fields)) is not None:
            return text
        if self._may_mean_a_field and ROW in fields:
            raise PromptError(
                f"the {self.label} of {row_label(item)} says row, which is the whole row, and the row has a field of "
                f'that name: write row["row"] for the field, or rename it'
            )
        try:
            text = "".join(bounded(self._template.generate({**fields, ROW: item}), "the template"))
        except UndefinedError as error:
            raise undefined_in(self.label, item, error) from error
        except TemplateRefused as error:
            raise PromptError(f"the {self.label} of {row_label(item)} cannot be made: {error}") from error
        except Exception as error:  # a filter or a method may raise anything; jinja2 lets it through
            # Its message may quote the row's values: they stay in the cause.
            raise PromptError(
                f"the {self.label} of {row_label(item)} cannot be made: {type(error).__name__} in the template"
            ) from error
        if not text.strip() and not self._may_be_blank:
            raise PromptError(f"the {self.label} of {row_label(item)} is empty: a field that it uses is blank")
        return text


def _beginning(tree: nodes.Template) -> tuple[str, bool]:
    """Return the text that a template begins with, before the first that a row says, and whether nothing follows."""
    texts: list[str] = []
    for statement in tree.body:
        for node in statement.nodes if isinstance(statement, nodes.Output) else (statement,):
            if not isinstance(node, nodes.TemplateData):
                return "".join(texts), False
            texts.append(node.data)
    return "".join(texts), True


def undefined_in(label: str, item: Any, error: UndefinedError) -> PromptError:
    """Return the error of a template that names what the row lacks."""
    fields = fields_of(item)
    known = ", ".join(map(str, fields)) or "no fields"
    return PromptError(
        f"the {label} of {row_label(item)} uses an undefined name: {error}; the row has: "
        f"{known}{_did_you_mean(error, fields)}"
    )


def _compiled(text: str, null: Null, label: str, may_be_blank: bool) -> Prompt:
    """Compile a prompt again, in another process."""
    return Prompt(text, label=label, may_be_blank=may_be_blank, null=null)


def _did_you_mean(error: UndefinedError, fields: Mapping[str, Any]) -> str:
    """Return how the field is written whose name is nearest to the one that is not there; "" when none is near."""
    quoted = _QUOTED.findall(str(error))
    near = get_close_matches(quoted[-1], [name for name in fields if isinstance(name, str)], n=1) if quoted else []
    return f"; did you mean {_written(near[0])}?" if near else ""


def _hint_at_spaces(text: str) -> str:
    """Return how a field is written whose name has spaces, when a template says ``{{ Question Text }}``."""
    found = _SPACED.search(text)
    return f"; a field with spaces in its name is written {{{{ {_written(found[1])} }}}}" if found else ""


def _written(field: str) -> str:
    return field if field.isidentifier() else f"{ROW}[{json.dumps(field, ensure_ascii=False)}]"


def _uses(tree: nodes.Template, name: str) -> bool:
    return any(node.name == name and node.ctx == "load" for node in tree.find_all(nodes.Name))


def _reaches(tree: nodes.Template, name: str) -> bool:
    """Return whether the template says ``name["name"]``."""
    return any(
        isinstance(node.node, nodes.Name) and node.node.name == name and node.arg == nodes.Const(name)
        for node in tree.find_all(nodes.Getitem)
    )


def fields_of(item: Any) -> Mapping[str, Any]:
    """Return the fields of `item`; an item that is not an object has one, ``data``."""
    return item if isinstance(item, dict | Mapping) else {"data": item}


def row_label(item: Any) -> str:
    """Return how errors name `item`: by its id."""
    row_id = item.get("_i") if isinstance(item, dict | Mapping) else None
    if row_id.__class__ is int:
        return f"row {row_id}"
    return "a row without an id" if row_id is None else f"row {shortened(str(row_id), _ID_CHARS)}"
