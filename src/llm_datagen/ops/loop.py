"""A row goes through some operators again and again, until a condition holds, or a number of rounds is over."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from llm_datagen.config import check_choice, check_flag
from llm_datagen.errors import ConfigError, OperatorError, RowDataError
from llm_datagen.errors.advice import a_kind
from llm_datagen.operators import Call, INodeContext, as_operator, kept_files, operator_name
from llm_datagen.operators.fingerprint import Parts, fingerprint_of
from llm_datagen.operators.references import operator_of
from llm_datagen.ops.base import DataOperator, as_function, id_of, new_column, row_of, whole_number, without_id
from llm_datagen.ops.expression import compile_condition
from llm_datagen.streams.ids import ID_FIELD
from llm_datagen.streams.rows import Rejected

Unmet = Literal["keep", "drop", "fail"]
"""What becomes of a row for which the condition does not hold after the last round."""

_POLL_SECONDS = 0.1
_FUNCTION = re.compile(r"[\w.]+:[\w.]+")


class Loop(DataOperator):
    """Calls operators for a row again and again: what they make of it goes into the next round.

    A round makes one row of one. The row is done when the loop is: a crash begins it anew, with what the operators have
    cached. When an operator raises, the row fails, and the node's `retries` begin it anew, too. When one returns
    None, the row is filtered. A Loop in the body begins anew in each round; it needs a `column` of its own.

    Args:
        body: an operator or a function, or a list of them, plain or async; in YAML, ``use:`` and ``with:`` of each.
            An operator that adds columns needs to overwrite them in the next round: `LLMOperator` with
            ``overwrite_columns=True``.
        until: ends the loop after a round when it is true: a condition as of `Keep`, or a function of the row; None:
            only `max_rounds` does.
        max_rounds: how many rounds there are, at most.
        unmet: "keep": a row for which `until` does not hold after the last round goes on all the same; "drop": it is
            filtered; "fail": it fails.
        keep_rounds: gives the row of each round, as children (``7_0``, ``7_1``, …), and not only that of the last. When
            a round returns None, those of the rounds before it.
        column: has the number of the round, from 1: in the body, and in what comes out.

    Raises:
        ConfigError: when that cannot be a loop, such as a body with operators that give rows at the end of the input.
    """

    def __init__(
        self,
        body: Any,
        *,
        until: Callable[[Any], Any] | str | None = None,
        max_rounds: int,
        unmet: Unmet = "keep",
        keep_rounds: bool = False,
        column: str = "_round",
    ) -> None:
        self.body = body
        self.until = until
        self.max_rounds = whole_number("max_rounds", max_rounds)
        self.unmet = check_choice("unmet", unmet, Unmet)
        self.keep_rounds = check_flag("keep_rounds", keep_rounds)
        self.column = new_column("column", column)
        self.operators = _operators(body)
        """The operators of the body."""
        self._calls = [_Step(operator) for operator in self.operators]
        self.keeps_state = sum(step.call.keeps_state for step in self._calls) > 0
        _check_columns([self.column, *(name for step in self._calls for name in step.columns)])
        if sum(step.call.keeps_state for step in self._calls) > 1:
            raise ConfigError("the body of a Loop has two operators that keep state, and there is one state per node")
        if until == "":
            raise ConfigError("until must be a condition, a function, or its 'module:name', not ''")
        self._is_met = _condition(until)
        if any(step.call.is_async for step in self._calls):
            for name in ("process_item", "setup", "teardown"):
                vars(self)[name] = getattr(self, f"_{name}_async")

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row after the last round; or the rows of all; or None.

        Raises:
            RowDataError: when the row has the column already, or `until` does not hold and `unmet` is "fail"; or the
                body makes several rows of one.
        """
        rounds = _Rounds(self, item)
        while rounds.begin():
            _wait(ctx)
            for step in self._calls:
                if rounds.row is not None:
                    rounds.take(step.made_of(rounds.row, rounds.number, ctx))
        return rounds.result()

    async def _process_item_async(self, item: Any, ctx: INodeContext) -> Any:
        rounds = _Rounds(self, item)
        while rounds.begin():
            await _wait_async(ctx)
            for step in self._calls:
                if rounds.row is not None:
                    rounds.take(await step.made_of_async(rounds.row, rounds.number, ctx))
        return rounds.result()

    def setup(self) -> Any:
        """Set up the operators of the body."""
        for method in _methods(self.operators, "setup"):
            method()

    def teardown(self) -> Any:
        """Release what they took."""
        for method in _methods(self.operators, "teardown"):
            method()

    async def _setup_async(self) -> None:
        for method in _methods(self.operators, "setup"):
            if inspect.isawaitable(found := method()):
                await found

    async def _teardown_async(self) -> None:
        for method in _methods(self.operators, "teardown"):
            if inspect.isawaitable(found := method()):
                await found

    def is_met(self, row: Any) -> bool:
        """Return whether the condition holds for a row."""
        return bool(self._is_met(row))

    def kept_files(self) -> dict[str, str]:
        """Return the files of the operators of the body."""
        return {what: path for operator in self.operators for what, path in kept_files(operator).items()}

    def fingerprint(self) -> Parts:
        """Return the settings, and the fingerprints of the operators of the body."""
        parts: Parts = {}
        for number, operator in enumerate(self.operators):
            found = {"operator": operator_name(operator), **fingerprint_of(operator)}
            parts |= {f"body[{number}] {name}": value for name, value in found.items()}
        return {**self.parts_of_arguments(without=("body",)), **parts}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker process needs: the condition is compiled there."""
        return {name: value for name, value in vars(self).items() if name != "_is_met"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._is_met = _condition(self.until)


class _Step:
    """An operator of the body, and how it is called for one row.

    Attributes:
        columns: those with the rounds of Loops that it is, or has.
    """

    def __init__(self, operator: Any) -> None:
        self.name = operator_name(operator)
        self.call = Call(operator)
        if self.call.finish is not None:
            raise ConfigError(f"{self.name} gives rows at the end of the input, so it cannot be in the body of a Loop")
        self.columns = frozenset(_columns_of_loops([operator]))

    def made_of(self, row: dict[str, Any], number: int, ctx: INodeContext) -> dict[str, Any] | Rejected | None:
        """Return the row that it makes of a row in a round, or None, or why there is none.

        Raises:
            RowDataError: when these are several rows, or none.
        """
        try:
            return self._one_row(self.call(self._argument(row, number), ctx))
        except Rejected as rejected:
            return rejected

    async def made_of_async(
        self, row: dict[str, Any], number: int, ctx: INodeContext
    ) -> dict[str, Any] | Rejected | None:
        """Do the same on an event loop, which it does not hold up."""
        try:
            return self._one_row(await self._call_async(self._argument(row, number), ctx))
        except Rejected as rejected:
            return rejected

    def _argument(self, row: dict[str, Any], number: int) -> Any:
        """Return what it is called with in a round; without the columns that it has made in the round before."""
        if self.columns and number > 1:
            row = {name: value for name, value in row.items() if name not in self.columns}
        return [row] if self.call.batch else row

    async def _call_async(self, argument: Any, ctx: INodeContext) -> Any:
        if self.call.is_async:
            return await self.call(argument, ctx)
        if self.call.keeps_state:
            return self.call(argument, ctx)
        return await asyncio.to_thread(self.call, argument, ctx)

    def _one_row(self, found: Any) -> dict[str, Any] | Rejected | None:
        for _ in range(2 if self.call.batch else 1):
            if isinstance(found, Iterator | list | tuple):
                rows = list(found)
                if len(rows) > 1:
                    raise RowDataError(f"{self.name} made {len(rows)} rows of one; in a Loop, a round makes one row")
                found = rows[0] if rows else None
        if found is not None and not isinstance(found, dict | Rejected):
            raise RowDataError(f"{self.name} returned {a_kind(type(found))}; in a Loop, a round makes a row")
        return found


class _Rounds:
    """The rounds of one row."""

    def __init__(self, loop: Loop, item: Any) -> None:
        if loop.column in row_of(item):
            raise RowDataError(f"the row has a column {loop.column!r} already; give the Loop another one, column=…")
        self._loop = loop
        self._id = id_of(item)
        self.number = 0
        self._kept: list[dict[str, Any]] = []
        self.row: dict[str, Any] | None = item
        self._reason: Rejected | None = None

    def begin(self) -> bool:
        """Return whether there is another round, and begin it."""
        loop = self._loop
        if self.number and self.row is not None and loop.keep_rounds:
            self._kept.append(without_id(self.row))
        if self.row is None or (self.number and loop.is_met(self.row)):
            return False
        if self.number == loop.max_rounds:
            if loop.until is not None and loop.unmet == "fail":
                raise RowDataError(f"until does not hold after {loop.max_rounds} rounds: {loop.until}")
            if loop.until is not None and loop.unmet == "drop":
                self._kept, self.row = [], None
                self._reason = Rejected(f"until does not hold after {loop.max_rounds} rounds")
            return False
        self.number += 1
        self.row = {**self.row, loop.column: self.number, ID_FIELD: self._id}
        return True

    def take(self, row: dict[str, Any] | Rejected | None) -> None:
        """Take what an operator made of the row."""
        if isinstance(row, Rejected):
            row, self._reason = None, row
        self.row = None if row is None else {**row, self._loop.column: self.number, ID_FIELD: self._id}

    def result(self) -> Any:
        """Return what comes out; or why nothing does, if that is known."""
        return (self._kept if self._loop.keep_rounds else self.row) or self._reason


def _condition(until: Callable[[Any], Any] | str | None) -> Callable[[Any], Any]:
    if until is None:
        return lambda _: False
    if isinstance(until, str) and not _FUNCTION.fullmatch(until):
        return compile_condition(until)
    found = as_function("until", until)
    assert found is not None
    return found


def _operators(body: Any) -> list[Any]:
    entries = list(body) if isinstance(body, Sequence) and not isinstance(body, str) else [body]
    if not entries:
        raise ConfigError("the body of a Loop is empty; give an operator, or a list of them")
    operators = []
    for number, entry in enumerate(entries):
        is_named = isinstance(entry, Mapping | str)
        try:
            operators.append(operator_of(entry, f"body[{number}]") if is_named else as_operator(entry))
        except ConfigError as error:
            raise ConfigError(str(error) if is_named else f"body[{number}]: {error}") from error
    return operators


def _check_columns(names: Sequence[str]) -> None:
    """Check that each of several Loops, one in the other or one after the other, has a column of its own."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two Loops, one in the body of the other or both in one body, have the column {twice!r}; give one of them "
            "another one, column=…"
        )


def _columns_of_loops(operators: Sequence[Any]) -> Iterator[str]:
    for operator in operators:
        if isinstance(operator, Loop):
            yield operator.column
            yield from _columns_of_loops(operator.operators)


def _methods(operators: Sequence[Any], name: str) -> Iterator[Callable[[], Any]]:
    return (method for operator in operators if callable(method := getattr(operator, name, None)))


def _is_paused(ctx: INodeContext) -> bool:
    """Return whether to wait before the next round.

    Raises:
        OperatorError: when the run is being cancelled.
    """
    if ctx.is_cancelled():
        raise OperatorError("the row was given up between two rounds: the run is being cancelled; a resume does it")
    return ctx.is_paused()


def _wait(ctx: INodeContext) -> None:
    while _is_paused(ctx):
        time.sleep(_POLL_SECONDS)


async def _wait_async(ctx: INodeContext) -> None:
    while _is_paused(ctx):
        await asyncio.sleep(_POLL_SECONDS)
