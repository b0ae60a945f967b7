"""Operators at the top level of a module, so that a run state can name them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from llm_datagen import BaseOperator, INodeContext


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "n": row["n"] * 2}


def add(row: dict[str, Any], by: int = 1) -> dict[str, Any]:
    return {**row, "n": row["n"] + by}


def pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return rows


class Label(BaseOperator):
    version = "1"  # of its own: no test gives it another one
    fails: ClassVar[bool] = False

    def __init__(self, text: str, *, kinds: tuple[str, ...] = (), extra: dict[str, Any] | None = None) -> None:
        self.text, self.kinds, self.extra = text, kinds, extra

    @classmethod
    @contextlib.contextmanager
    def failing(cls) -> Iterator[None]:
        """Let every row of such an operator fail, in this process."""
        cls.fails = True
        try:
            yield
        finally:
            cls.fails = False

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.fails:
            raise ValueError("it is to stop here")
        return {**item, "label": [self.text, list(self.kinds), self.extra]}


@dataclass
class Scale(BaseOperator):
    factor: float = 1.0

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return {**item, "scaled": item["n"] * self.factor}


class Client(BaseOperator):
    def __init__(self, api_key: str) -> None:
        self.api_key = api_key

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item


class Plain:
    """An operator that inherits from nothing."""

    name = "plain"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item


class PlainWith(Plain):
    def __init__(self, by: int) -> None:
        self.by = by
