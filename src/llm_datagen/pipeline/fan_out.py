"""Routing: a node with several named outputs.

Where a row goes is decided once, and durably. The node writes all of its rows, each with the name of its output, to one
stream of its own; behind it, a small node for each output copies the rows that have its name. So every stream has one
writer and one source, and what holds for each of them (S1, S2, R2) holds for all: an operator that would decide
otherwise when it is called again, as a model may, can neither lose a row nor put it into two outputs.
"""

from __future__ import annotations

import reprlib
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable, iscoroutinefunction
from types import CoroutineType, GeneratorType
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import a_kind
from llm_datagen.operators import BaseOperator, Call, FunctionOperator, INodeContext, operator_name, take_nature
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.streams.ids import ID_FIELD, SOURCES_FIELD
from llm_datagen.streams.rows import Derived, Rejected, copied

TO_FIELD = "to"
ROW_FIELD = "row"

Rule = Callable[[Any], str | None]
"""Given a row, the name of its output; None drops the row."""


@dataclass(frozen=True, slots=True)
class Route:
    """What an operator returns to say where a row goes; in a list, for several rows.

    Attributes:
        name: the name of one of the node's outputs.
        row: the row.
    """

    name: str
    row: Any


class RoutingOperator(FunctionOperator):
    """An operator, whose rows get the names of their outputs.

    Args:
        operator: what the user gave.
        names: the outputs.
        rule: where rows go that are no `Route`.

    Attributes:
        operator: what the user gave.
    """

    def __init__(self, operator: Any, names: Sequence[str], rule: Rule | None) -> None:
        self.operator = operator
        self._call = Call(operator)
        self._names = tuple(names)
        self._rule = rule
        func = self._await_and_tag if self._call.is_async else self._call_and_tag
        super().__init__(func, batch=self._call.batch, name=operator_name(operator))
        take_nature(self, operator)
        if self._call.finish is not None:
            finish = self._finish_and_tag_async if self._call.is_finish_async else self._finish_and_tag
            vars(self)["finish"] = finish

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the parts of the operator, of the rule, and the names of the outputs."""
        rule = {} if self._rule is None else fingerprint_of(self._rule)
        parts = {**fingerprint_of(self.operator), **{f"route: {name}": value for name, value in rule.items()}}
        return {**parts, "outputs": self._outputs}

    def _call_and_tag(self, argument: Any, ctx: INodeContext) -> Any:
        return self._tagged_result(argument, self._call(argument, ctx))

    async def _await_and_tag(self, argument: Any, ctx: INodeContext) -> Any:
        return self._tagged_result(argument, await self._call(argument, ctx))

    def _finish_and_tag(self, ctx: INodeContext) -> Any:
        assert self._call.finish is not None
        return self._tagged_end(self._call.finish(ctx))

    async def _finish_and_tag_async(self, ctx: INodeContext) -> Any:
        assert self._call.finish is not None
        found = self._call.finish(ctx)
        if isinstance(found, AsyncIterable):
            return [self._tagged(row) async for row in found]
        return self._tagged_end(await found)

    def _tagged_end(self, found: Any) -> Any:
        """Return the rows of a `finish`; what is none, as it is: whoever called refuses it."""
        if isinstance(found, str | dict) or not isinstance(found, Iterable):
            return found
        return (self._tagged(row) for row in found)

    def _tagged_result(self, argument: Any, result: Any) -> Any:
        """Return what a call returned: of a batch, a result for each item, or a flat list of rows."""
        if not self._call.batch:
            return self._tagged_rows(result)
        if isinstance(result, GeneratorType):
            result = list(result)
        if not isinstance(result, list | tuple):
            return result  # whoever called refuses it
        tag = self._tagged_rows if len(result) == len(argument) else self._tagged
        return [tag(part) for part in result]

    def _tagged_rows(self, result: Any) -> Any:
        """Return what there is for one item: a row, or several."""
        if isinstance(result, GeneratorType):
            return (self._tagged(row) for row in result)
        if isinstance(result, list | tuple):
            return [self._tagged(row) for row in result]
        return self._tagged(result)

    def _tagged(self, row: Any) -> dict[str, Any] | Rejected | None:
        name: str | None
        if row is None or isinstance(row, Rejected):
            return row  # it goes nowhere
        if isinstance(row, Derived):
            row = row.as_row()
        if isinstance(row, Route):
            name, row = row.name, row.row.as_row() if isinstance(row.row, Derived) else row.row
            if not isinstance(name, str) or name not in self._names:
                raise ValueError(f"{self.name} sent a row to {name!r}; the outputs are {self._outputs}")
            if row is None or isinstance(row, list | tuple | GeneratorType | Rejected | Route):
                what = "None" if row is None else a_kind(type(row))
                raise TypeError(f"a Route carries one row, not {what}: return a list of Routes, a Rejected, or None")
        else:
            self._refuse_no_row(row)
            name = self._by_rule(row)
            if name is None:
                return None
        tagged = {TO_FIELD: name, ROW_FIELD: row}
        if isinstance(row, dict) and ID_FIELD in row:
            tagged[ID_FIELD] = row[ID_FIELD]  # so that it is attributed to its item
        if isinstance(row, dict) and SOURCES_FIELD in row:
            tagged[SOURCES_FIELD] = row[SOURCES_FIELD]  # so that a trace finds them
        return tagged

    def _refuse_no_row(self, row: Any) -> None:
        """Refuse what is no row, and without a rule all that is no `Route`."""
        if isawaitable(row):
            if isinstance(row, CoroutineType):
                row.close()
            raise TypeError("the operator returned a coroutine; make it `async def`, so that it is awaited")
        if isinstance(row, list | tuple | GeneratorType):
            raise TypeError(
                f"{self.name} returned {_told(row)} within a list; return one list of {self._what}, for all rows"
            )
        if self._rule is None:
            raise TypeError(
                f"{self.name} returned {_told(row)}, which does not say where it goes: return Route(name, row) with "
                f"the name of an output ({self._outputs}), a list of Routes, or None, which drops the row; or give "
                "bind_io() a rule, route=f(row)"
            )

    def _by_rule(self, row: Any) -> str | None:
        """Return the output that the rule says; None when it drops the row."""
        assert self._rule is not None
        try:
            name = self._rule(row)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"route failed on {_told(row)}, which {self.name} returned: {type(error).__name__}: {error}"
            ) from error
        if name is not None and (not isinstance(name, str) or name not in self._names):
            raise ValueError(
                f"route sent a row of {self.name} to {_short(name)}; it returns the name of an output "
                f"({self._outputs}), or None, which drops the row"
            )
        return name

    @property
    def _outputs(self) -> str:
        return ", ".join(self._names)

    @property
    def _what(self) -> str:
        return "Routes" if self._rule is None else "rows"


def _told(value: Any) -> str:
    return f"{a_kind(type(value))} ({_short(value)})"


def _short(value: Any) -> str:
    """Return a value for messages, without the middle of a long one."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 80
    return shown.repr(value)


class Selector(BaseOperator):
    """Keeps the rows of one output.

    Args:
        output: the output's name.
    """

    def __init__(self, output: str) -> None:
        self.output = output
        self.name = f"select({output})"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, if it is of this output."""
        return copied(item[ROW_FIELD]) if item[TO_FIELD] == self.output else None

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the output's name."""
        return {"output": self.output}


def check_outputs(node_id: str, outputs: Mapping[Any, Any], rule: Any) -> None:
    """Check that named outputs are well formed.

    Raises:
        ConfigError: when there is none, a name is no text, or the rule cannot be called, or names another output.
    """
    if not outputs:
        raise ConfigError(f"node {node_id} has no output: give bind_io() a stream, or names with a stream each")
    for name in outputs:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"node {node_id}: the name of an output must be text, not {name!r}")
    if rule is not None and not callable(rule):
        raise ConfigError(f"node {node_id}: route must be a function of a row, not {rule!r}")
    if iscoroutinefunction(rule):
        raise ConfigError(
            f"node {node_id}: route must be a plain function, and is async: let the operator await, and return "
            "Route(name, row)"
        )
    for name in getattr(rule, "outputs", ()):
        if name not in outputs:
            raise ConfigError(f"node {node_id}: route sends rows to {name!r}; the outputs are {', '.join(outputs)}")
