"""The environment of all templates: Jinja2, sandboxed, over the fields of a row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import StrictUndefined, Undefined, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter

from llm_datagen.llm.prompts import bounds
from llm_datagen.llm.prompts.bounds import TemplateRefused
from llm_datagen.llm.prompts.values import Null, json_of, text_of

_OF_OBJECTS = ("items", "keys", "values", "get")
"""The methods of a dict that a template may call, where there is no key of that name."""

_OF_TEXTS = (
    "capitalize", "center", "e", "escape", "forceescape", "indent", "lower", "replace", "safe", "string", "striptags",
    "title", "trim", "truncate", "upper", "urlize", "wordcount", "wordwrap",
)  # fmt: skip
"""The filters that take a text: another value is written as a text first, as it would be without the filter."""

_TO_NUMBERS = ("float", "int")
"""The filters that make a number."""

_MISSING: Any = object()


class _Generator(CodeGenerator):
    """Has ``a ~ b`` written as any value is, and bounded."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - as Jinja2 names it
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _Formatter(SandboxedFormatter):
    """``str.format`` that writes values as the template itself does, without gigantic widths."""

    def __init__(self, environment: TemplateEnvironment) -> None:
        super().__init__(environment)
        self._text = environment.text

    def format_field(self, value: Any, format_spec: str) -> Any:
        bounds.check_format_spec(format_spec)
        return super().format_field(value, format_spec) if format_spec else self._text(value)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """Jinja2 for prompts. A template can neither reach into Python nor change a row.

    Keys of an object come before Python's attributes; of these, only ``items()``, ``keys()``, ``values()`` and
    ``get()`` are there. What would be written as Python's own text of an object is an error, as is what would be
    gigantic.

    Args:
        null: what is written for a null.
    """

    code_generator_class = _Generator
    concat = staticmethod(bounds.concatenated)
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, null: Null) -> None:
        self._null = null
        # Nothing is worked out beforehand: Jinja2's optimizer knows neither how we write values nor our bounds.
        super().__init__(undefined=StrictUndefined, autoescape=False, finalize=self._finalize, optimized=False)
        for name, check in bounds.CHECKS.items():
            self.filters[name] = _checked(self.filters[name], check)
        for name in _OF_TEXTS:
            self.filters[name] = self._of_text(self.filters[name])
        for name in _TO_NUMBERS:
            self.filters[name] = _to_number(name, self.filters[name])
        self.filters.update(tojson=json_of, join=self._join, format=self._format)
        lipsum: Any = self.globals["lipsum"]
        self.globals["lipsum"] = _checked(lipsum, bounds.check_lipsum)

    def text(self, value: Any) -> str:
        """Return what is written for `value`."""
        return text_of(value, self._null)

    @pass_context
    def _finalize(self, context: Context, value: Any) -> str:
        return self.text(value)

    def joined(self, values: Iterable[Any], separator: str = "", what: str = "the operator ~") -> str:
        """Return the texts of `values` as one."""
        texts = (self.text(value) for value in values)
        pieces = (piece if number == 0 else separator + piece for number, piece in enumerate(texts))
        return "".join(bounds.bounded(pieces, what))

    def _join(self, value: Iterable[Any], d: Any = "", attribute: str | int | None = None) -> str:
        values = value if attribute is None else map(make_attrgetter(self, attribute), value)
        return self.joined(values, self.text(d), "the filter join")

    def _format(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = self.text(value)
        bounds.check_operation("%", text, ())
        return text % self._formattable(text, kwargs or args)

    def _formattable(self, template: str, value: Any) -> Any:
        """Return what `template` is given by ``%``: ``%s`` writes values as the template itself does."""
        if isinstance(value, tuple):
            return tuple(map(self._number_or_text, value))
        if isinstance(value, Mapping) and "%(" in template:
            return {key: self._number_or_text(each) for key, each in value.items()}
        return self._number_or_text(value)

    def _number_or_text(self, value: Any) -> Any:
        return value if isinstance(value, int | float) and not isinstance(value, bool) else self.text(value)

    def _of_text(self, function: Callable[..., Any]) -> Callable[..., Any]:
        place = _place_of_value(function)

        @functools.wraps(function)
        def of_text(*args: Any, **kwargs: Any) -> Any:
            value = args[place]
            text = value if isinstance(value, str | Undefined) else self.text(value)
            return function(*args[:place], text, *args[place + 1 :], **kwargs)

        return of_text

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return ``obj.attribute``; of an object, its key first."""
        if not isinstance(obj, Mapping):
            return super().getattr(obj, attribute)
        if attribute in obj:
            return obj[attribute]
        if attribute in _OF_OBJECTS:
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]``; of an object, never an attribute."""
        if not isinstance(obj, Mapping):
            return super().getitem(obj, argument)
        return obj[argument] if argument in obj else self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may have it."""
        return super().is_safe_attribute(obj, attr, value) and not (isinstance(obj, int) and attr == "to_bytes")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return ``left operator right``."""
        bounds.check_operation(operator, left, right)
        if operator == "%" and isinstance(left, str):
            right = self._formattable(left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return what stands for ``str.format``, when `value` is that."""
        if super().wrap_str_format(value) is None:
            return None
        template, is_map = value.__self__, value.__name__ == "format_map"

        @functools.wraps(value)
        def wrapper(*args: Any, **kwargs: Any) -> str:
            fields = args[0] if is_map else kwargs
            return _Formatter(self).vformat(str(template), () if is_map else args, fields)

        return wrapper

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call `obj`."""
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | bytes):
            args = tuple(bounds.check_method(owner, obj.__name__, args, kwargs))
        return super().call(context, obj, *args, **kwargs)


def _place_of_value(function: Callable[..., Any]) -> int:
    """Return which argument of a filter is the value: it comes behind what Jinja2 hands to some filters first."""
    return 1 if hasattr(function, "jinja_pass_arg") else 0


def _to_number(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that makes no 0 of what is no number, as Jinja2's does: a null or a blank text stays a null."""

    @functools.wraps(function)
    def to_number(value: Any, default: Any = _MISSING, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, Undefined):
            str(value)  # raises what the name is
        made = function(value, default, *args, **kwargs)
        if made is not _MISSING:
            return made
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        raise TemplateRefused(f"the filter {name} got what is no number: say what stands for it, {name}(default=1)")

    return to_number


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    place = _place_of_value(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = args[place:]
        if given and isinstance(given[0], Undefined):
            str(given[0])  # raises what the name is
        check(*given, **kwargs)
        return function(*args, **kwargs)

    return checked


@functools.cache
def environment(null: Null) -> TemplateEnvironment:
    """Return the environment of all templates with this setting."""
    return TemplateEnvironment(null)
