"""Templates whose result is a value, not a text: ``{{ t }}`` is the number that the row has in ``t``."""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateSyntaxError, Undefined, UndefinedError, nodes

from llm_datagen.errors import ConfigError
from llm_datagen.llm.errors import PromptError
from llm_datagen.llm.prompts.bounds import TemplateRefused
from llm_datagen.llm.prompts.environment import environment
from llm_datagen.llm.prompts.template import ROW, Prompt, fields_of, row_label, undefined_in
from llm_datagen.llm.prompts.values import Null

SENT_AS_IT_IS = "a text that is to be sent as it is is written {% set x = '…' %}{{ x }}"
"""What to do about a text that is to look like a template."""
_RESULT = "_result"


class NativeTemplate:
    """A template over a row. If it is one expression, with nothing around it, its result is the value itself.

    Args:
        text: the Jinja2 source.
        label: what the template is called in errors.
        null: whether a null may be the result ("empty"), or the row fails ("error").

    Raises:
        ConfigError: when `text` is not a Jinja2 template.
    """

    def __init__(self, text: str, *, label: str, null: Null = "empty") -> None:
        self.label = label
        self._source = text, null
        self._text = Prompt(text, label=label, may_be_blank=True, null=null)
        expression = _only_expression(environment(null).parse(text.strip()))
        self._template = None
        if expression is not None:
            body: list[nodes.Node] = [nodes.Assign(nodes.Name(_RESULT, "store"), expression, lineno=1)]
            self._template = environment(null).from_string(nodes.Template(body, lineno=1))

    def __reduce__(self) -> tuple[Any, ...]:
        return _compiled, (*self._source, self.label)  # a template itself cannot be pickled

    def of(self, item: Any) -> Any:
        """Return what the template makes of a row.

        Raises:
            PromptError: naming the row and, for an undefined name, the name; never the row's values.
        """
        if self._template is None:
            return self._text.render(item)
        fields = fields_of(item)
        try:
            context = self._template.new_context({**fields, ROW: item})
            for _ in self._template.root_render_func(context):
                pass
            result = context.vars[_RESULT]
            if isinstance(result, Undefined):
                str(result)  # raises what the name is
        except UndefinedError as error:
            raise undefined_in(self.label, item, error) from error
        except TemplateRefused as error:
            raise PromptError(f"the {self.label} of {row_label(item)} cannot be made: {error}") from error
        except Exception as error:  # a filter may raise anything, also with values of the row in its words
            raise PromptError(
                f"the {self.label} of {row_label(item)} cannot be made: {type(error).__name__} in the template"
            ) from error
        if result is None and self._source[1] == "error":
            raise PromptError(
                f"the {self.label} of {row_label(item)} is null: say what stands for it, {{{{ … or 1 }}}}"
            )
        return result


def has_names(text: str, label: str) -> bool:
    """Return whether a text that looks like a template names a variable, or any other name.

    Raises:
        ConfigError: when it is no template.
    """
    try:
        tree = environment("empty").parse(text)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{label} is not a Jinja2 template: line {error.lineno}: {error}; {SENT_AS_IT_IS}") from error
    return any(node.ctx == "load" for node in tree.find_all(nodes.Name))


def _compiled(text: str, null: Null, label: str) -> NativeTemplate:
    """Compile a template again, in another process."""
    return NativeTemplate(text, label=label, null=null)


def _only_expression(tree: nodes.Template) -> nodes.Expr | None:
    match tree.body:
        case [nodes.Output(nodes=[expression])] if not isinstance(expression, nodes.TemplateData):
            return expression
        case _:
            return None
