"""Chains of operators, and a plain Python model of what a pipeline must make of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from llm_datagen import BaseOperator, INodeContext

Fate = Callable[[Any], Any]
"""What becomes of a row, whatever operator does it: a row, None, or a list of rows."""

STYLES = ("item", "async item", "batch", "async batch", "flat batch")


def modelled(rows: Sequence[Any], fates: Sequence[Fate]) -> list[dict[str, Any]]:
    """Return the rows that a pipeline of `fates` must have made of `rows`, with their ids (scheme "path")."""
    current: list[tuple[Any, Any]] = list(enumerate(rows))
    for fate in fates:
        following: list[tuple[Any, Any]] = []
        for row_id, row in current:
            result = fate(row)
            if isinstance(result, list):
                following += [(f"{row_id}_{k}", child) for k, child in enumerate(result)]
            elif result is not None:
                following.append((row_id, result))
        current = following
    return [{**row, "_i": i} if isinstance(row, dict) else {"_i": i, "data": row} for i, row in current]


def bare(item: Any) -> Any:
    """Return an item without its id."""
    return {key: value for key, value in item.items() if key != "_i"} if isinstance(item, dict) else item


class _Item(BaseOperator):
    def __init__(self, fate: Fate, name: str, naps: random.Random | None) -> None:
        self.fate = fate
        self.name = name
        self.naps = naps

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.naps:
            time.sleep(self.naps.random() * 0.003)
        return self.fate(bare(item))


class _AsyncItem(_Item):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        await asyncio.sleep(self.naps.random() * 0.003 if self.naps else 0)
        return self.fate(bare(item))


class _Batch(BaseOperator):
    def __init__(self, fate: Fate, name: str, naps: random.Random | None) -> None:
        self.fate = fate
        self.name = name
        self.naps = naps

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if self.naps:
            time.sleep(self.naps.random() * 0.003)
        return [self.fate(bare(item)) for item in items]


class _AsyncBatch(_Batch):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        await asyncio.sleep(self.naps.random() * 0.003 if self.naps else 0)
        return [self.fate(bare(item)) for item in items]


class _FlatBatch(_Batch):
    """Gives a flat list, in reverse, whose rows say which item they are from."""

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        flat: list[Any] = []
        for item in reversed(items):
            result = self.fate(bare(item))
            assert not isinstance(result, list), "a flat list cannot say whether one row was a list"
            if result is not None:
                flat.append({**result, "_i": item["_i"]})
        return flat


def operator(style: str, fate: Fate, *, name: str = "", naps: random.Random | None = None) -> BaseOperator:
    """Return an operator of one of the STYLES that does `fate` to every row."""
    classes = {
        "item": _Item,
        "async item": _AsyncItem,
        "batch": _Batch,
        "async batch": _AsyncBatch,
        "flat batch": _FlatBatch,
    }
    made: BaseOperator = classes[style](fate, name or f"{style} {getattr(fate, '__name__', '')}", naps)
    return made
