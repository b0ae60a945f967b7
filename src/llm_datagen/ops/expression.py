"""Conditions over the columns of a row: parsed, checked and compiled without running any Python of theirs.

Each node of the tree becomes a function of the row; `expression_values` says what is done with values. A column that is
not there is an error and never just false.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, NoReturn

from llm_datagen.errors import ConfigError, RowDataError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.ops.base import refuse_missing
from llm_datagen.ops.expression_values import (
    FUNCTIONS,
    are_equal,
    as_number,
    as_truth,
    called,
    element_of,
    in_order,
    is_within,
    sliced,
)

Part = Callable[[dict[str, Any]], Any]

WHOLE_ROW = "row"
"""What the whole row is called: ``row["two words"]``, ``"score" in row``."""

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_JSON_WORDS = {"true": "True", "false": "False", "null": "None"}
_MOST_CHARACTERS = 10_000


def compile_condition(text: str) -> Callable[[dict[str, Any]], bool]:
    """Return a condition as a function of a row.

    The function raises RowDataError when the row has no such column, or a value is of another kind than it must be.

    Args:
        text: such as ``score >= 4 and lang in ["en", "de"]``.

    Raises:
        ConfigError: when it cannot be read, or uses what is not allowed, with the place.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"a condition must be a text of up to {_MOST_CHARACTERS:,} characters, not {text!r:.80}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        part = _Compiler(text).part(tree)
    except (SyntaxError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"the condition {text!r} cannot be read: {error}") from None
    except (RecursionError, MemoryError):
        raise ConfigError("the condition has too many levels; make it shorter") from None
    if isinstance(tree, ast.BinOp | ast.List | ast.Call) or (
        isinstance(tree, ast.Constant) and not isinstance(tree.value, bool)
    ):
        raise ConfigError(f"the condition {text!r} must say true or false, such as `score >= 4`")

    def condition(row: dict[str, Any]) -> bool:
        try:
            return as_truth(part(row))
        except RowDataError as error:
            raise RowDataError(f"{error} (in {text!r})") from None
        except (TypeError, ArithmeticError, LookupError, ValueError) as error:
            raise RowDataError(f"{type(error).__name__}: {error} (in {text!r})") from None

    return condition


class _Compiler:
    """Makes functions of the nodes of a tree, or refuses them."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _refuse(self, node: ast.AST, why: str) -> NoReturn:
        segment = ast.get_source_segment(self._text.strip(), node) or self._text
        raise ConfigError(f"the condition {self._text!r}: `{segment}` {why}")

    def part(self, node: ast.AST) -> Part:
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self._refuse(
                node,
                "is not allowed; allowed are columns, constants, comparisons, and, or, not, in, + - * / // %, "
                f"[…], and {', '.join(FUNCTIONS)}",
            )
        part: Part = method(node)
        return part

    def _constant(self, node: ast.Constant) -> Part:
        value = node.value
        if value is not None and not isinstance(value, str | int | float):
            self._refuse(node, "is no value that JSON has")
        return _always(value)

    def _name(self, node: ast.Name) -> Part:
        name = node.id
        if name in _JSON_WORDS:
            self._refuse(node, f"is written {_JSON_WORDS[name]} here; a column of this name is row[{name!r}]")
        if name == WHOLE_ROW:
            return lambda row: row

        def column(row: dict[str, Any]) -> Any:
            try:
                return row[name]
            except KeyError:
                refuse_missing(row, name)

        return column

    def _list(self, node: ast.List | ast.Tuple | ast.Set) -> Part:
        parts = [self.part(each) for each in node.elts]
        if all(isinstance(each, ast.Constant) for each in node.elts):
            values = [part({}) for part in parts]
            return _always(values)
        return lambda row: [part(row) for part in parts]

    _tuple = _set = _list

    def _subscript(self, node: ast.Subscript) -> Part:
        value = self.part(node.value)
        if isinstance(node.slice, ast.Slice):
            bounds = [None if bound is None else self.part(bound) for bound in (node.slice.lower, node.slice.upper)]
            if node.slice.step is not None:
                self._refuse(node, "has a step")
            return lambda row: sliced(value(row), *(None if bound is None else bound(row) for bound in bounds))
        key = self.part(node.slice)
        return lambda row: element_of(value(row), key(row))

    def _boolop(self, node: ast.BoolOp) -> Part:
        parts = [self.part(each) for each in node.values]
        if isinstance(node.op, ast.And):
            return lambda row: all(as_truth(part(row)) for part in parts)
        return lambda row: any(as_truth(part(row)) for part in parts)

    def _unaryop(self, node: ast.UnaryOp) -> Part:
        part = self.part(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda row: not as_truth(part(row))
        if isinstance(node.op, ast.USub):
            return lambda row: -as_number(part(row))
        return self._refuse(node, "is not allowed")

    def _binop(self, node: ast.BinOp) -> Part:
        function = _ARITHMETIC.get(type(node.op))
        if function is None:
            self._refuse(node, "is not allowed; arithmetic is + - * / // %")
        left, right = self.part(node.left), self.part(node.right)
        return lambda row: function(as_number(left(row)), as_number(right(row)))

    def _compare(self, node: ast.Compare) -> Part:
        first = self.part(node.left)
        rest = [
            (self._comparison(node, op), self.part(each)) for op, each in zip(node.ops, node.comparators, strict=True)
        ]
        if len(rest) == 1:
            [(compare, second)] = rest
            return lambda row: compare(first(row), second(row))

        def chain(row: dict[str, Any]) -> bool:
            left = first(row)
            for compare, part in rest:
                right = part(row)
                if not compare(left, right):
                    return False
                left = right
            return True

        return chain

    def _comparison(self, node: ast.Compare, op: ast.cmpop) -> Callable[[Any, Any], bool]:
        if isinstance(op, ast.Is | ast.IsNot):
            if not all(isinstance(each, ast.Constant) and each.value is None for each in node.comparators):
                self._refuse(node, "compares with something other than None; write ==")
            return operator.is_ if isinstance(op, ast.Is) else operator.is_not
        if isinstance(op, ast.Eq):
            return are_equal
        if isinstance(op, ast.NotEq):
            return lambda left, right: not are_equal(left, right)
        if isinstance(op, ast.In):
            return is_within
        if isinstance(op, ast.NotIn):
            return lambda left, right: not is_within(left, right)
        return in_order(_ORDER[type(op)])

    def _call(self, node: ast.Call) -> Part:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            self._refuse(node, f"calls what is no function here; {did_you_mean(name, FUNCTIONS)}")
        most = {"min": 100, "max": 100, "round": 2}.get(name, 1)
        if node.keywords or not 1 <= len(node.args) <= most:
            self._refuse(node, f"has the wrong arguments: {name} takes {'1' if most == 1 else f'1 to {most}'}")
        parts = [self.part(each) for each in node.args]
        return lambda row: called(name, [part(row) for part in parts])


def _always(value: Any) -> Part:
    def constant(row: dict[str, Any]) -> Any:
        return value

    return constant
