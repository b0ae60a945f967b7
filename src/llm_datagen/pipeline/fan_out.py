"""Routing: a node with several named outputs.

Where a row goes is decided once, and durably. The node writes all of its rows, each with the name of its output, to one
stream of its own; behind it, a small node for each output copies the rows that have its name. So every stream has one
writer and one source, and what holds for each of them (S1, S2, R2) holds for all: an operator that would decide
otherwise when it is called again, as a model may, can neither lose a row nor put it into two outputs.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import GeneratorType
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import a_kind
from llm_datagen.operators import BaseOperator, Call, FunctionOperator, INodeContext, operator_name
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.streams.ids import ID_FIELD, SOURCES_FIELD
from llm_datagen.streams.rows import Derived

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
        for name in ("setup", "teardown", "bisect", "batch_by", "stateful", "keeps_state", "kept_files"):
            if hasattr(operator, name):
                setattr(self, name, getattr(operator, name))
        if self._call.finish is not None:
            finish = self._finish_and_tag_async if self._call.is_finish_async else self._finish_and_tag
            vars(self)["finish"] = finish

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the parts of the operator, of the rule, and the names of the outputs."""
        rule = {} if self._rule is None else fingerprint_of(self._rule)
        parts = {**fingerprint_of(self.operator), **{f"route: {name}": value for name, value in rule.items()}}
        return {**parts, "outputs": ", ".join(self._names)}

    def _call_and_tag(self, argument: Any, ctx: INodeContext) -> Any:
        return self._tagged_all(self._call(argument, ctx))

    async def _await_and_tag(self, argument: Any, ctx: INodeContext) -> Any:
        return self._tagged_all(await self._call(argument, ctx))

    def _finish_and_tag(self, ctx: INodeContext) -> Any:
        assert self._call.finish is not None
        for row in self._call.finish(ctx) or ():
            yield self._tagged(row)

    async def _finish_and_tag_async(self, ctx: INodeContext) -> Any:
        assert self._call.finish is not None
        found = self._call.finish(ctx)
        if isinstance(found, AsyncIterable):
            return [self._tagged(row) async for row in found]
        return [self._tagged(row) for row in await found or ()]

    def _tagged_all(self, result: Any) -> Any:
        if isinstance(result, GeneratorType):
            return (self._tagged_all(part) for part in result)
        if isinstance(result, list | tuple):
            return [self._tagged_all(part) for part in result]
        return self._tagged(result)

    def _tagged(self, row: Any) -> dict[str, Any] | None:
        if row is None:
            return None
        name: Any
        if isinstance(row, Derived):
            row = row.as_row()
        if isinstance(row, Route):
            name, row = row.name, row.row.as_row() if isinstance(row.row, Derived) else row.row
        elif self._rule is None:
            raise TypeError(
                f"{self.name} returned {a_kind(type(row))}, which does not say where it goes: return "
                "Route(name, row), or give bind_io() a rule, route=f(row)"
            )
        elif (name := self._rule(row)) is None:
            return None
        if name not in self._names:
            raise ValueError(f"{self.name} sent a row to {name!r}; the outputs are {', '.join(self._names)}")
        if row is None or isinstance(row, list | tuple | GeneratorType):
            raise TypeError(f"a Route carries one row, not {a_kind(type(row))}: return a list of Routes, or None")
        tagged = {TO_FIELD: name, ROW_FIELD: row}
        if isinstance(row, dict) and ID_FIELD in row:
            tagged[ID_FIELD] = row[ID_FIELD]  # so that it is attributed to its item
        if isinstance(row, dict) and SOURCES_FIELD in row:
            tagged[SOURCES_FIELD] = row[SOURCES_FIELD]  # so that a trace finds them
        return tagged


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
        return item[ROW_FIELD] if item[TO_FIELD] == self.output else None

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
    for name in getattr(rule, "outputs", ()):
        if name not in outputs:
            raise ConfigError(f"node {node_id}: route sends rows to {name!r}; the outputs are {', '.join(outputs)}")
