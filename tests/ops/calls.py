"""Operators called without a run: as a node calls them, with a state that is a dict."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any, NoReturn, cast

from llm_datagen import INodeContext
from llm_datagen.streams.rows import Derived, Rejected
from llm_datagen.streams.state.keys import encode_key


class State(dict[Any, Any]):
    """A state in memory: values are copies, keys are in their order."""

    def __setitem__(self, key: Any, value: Any) -> None:
        encode_key(key)
        super().__setitem__(key, json.dumps(value))

    def __getitem__(self, key: Any) -> Any:
        return json.loads(super().__getitem__(key))

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def items(self, *first: str | int) -> Iterator[tuple[Any, Any]]:  # type: ignore[override]
        for key in sorted(self, key=encode_key):
            parts = key if isinstance(key, tuple) else (key,)
            if parts[: len(first)] == first:
                yield key, self[key]


class Context:
    """What an operator is given beside a row: here, a state."""

    def __init__(self) -> None:
        self.state = State()

    def is_cancelled(self) -> bool:
        return False

    def reject(self, reason: str) -> NoReturn:
        """Leave the row out."""
        raise Rejected(reason)

    def is_paused(self) -> bool:
        return False


def with_ids(rows: Iterable[Any]) -> list[Any]:
    """Return rows with ids: their own, else from 0 on."""
    return [{**row, "_i": row.get("_i", number)} for number, row in enumerate(rows)]


def outcome(operator: Any, rows: Iterable[Any]) -> list[Any]:
    """Return what an operator makes of rows; rows at the end as they are, with their sources."""
    ctx = Context()
    made: list[Any] = []
    for row in with_ids(rows):
        result = operator.process_item(row, cast(INodeContext, ctx))
        is_left_out = result is None or isinstance(result, Rejected)
        made += result if isinstance(result, list | GeneratorType) else [] if is_left_out else [result]
    made += list(operator.finish(cast(INodeContext, ctx)) or ())
    return [each.as_row() if isinstance(each, Derived) else each for each in made]


def bare(rows: Iterable[Any]) -> list[Any]:
    """Return rows without what says where they come from."""
    return [{name: row[name] for name in row if name not in ("_i", "_sources")} for row in rows]
