"""The operators of the torture, and what each of them does with a row: the model uses the same functions."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_datagen import BaseOperator, INodeContext, Rejected
from llm_datagen.testing import CallCounter

from . import mischief

if TYPE_CHECKING:
    from .cases import Node


REASON = "left out by chance"


class PoisonError(Exception):
    """A row is bad, and stays so."""


class FlakyError(Exception):
    """A call failed, and will not when it is made often enough."""


def _hash(row: dict[str, Any], seed: int) -> int:
    return zlib.crc32(f"{seed} {row['k']} {row['v']}".encode())


def _map(row: dict[str, Any], seed: int) -> Any:
    return {**row, "v": str(_hash(row, seed))}


def _filter(row: dict[str, Any], seed: int) -> Any:
    return None if _hash(row, seed) % 3 == 0 else _map(row, seed)


def _sieve(row: dict[str, Any], seed: int) -> Any:
    return None if _hash(row, seed) % 10 else _map(row, seed)


def _fan(row: dict[str, Any], seed: int) -> Any:
    number = _hash(row, seed)
    return [{**row, "v": f"{number}.{k}"} for k in range(number % 4)]


FATES = {"map": _map, "filter": _filter, "sieve": _sieve, "fan": _fan}


def folded(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return the one row that a fold makes of a batch."""
    total = zlib.crc32("|".join(f"{row['k']} {row['v']}" for row in rows).encode(), seed)
    return {**rows[0], "k": f"fold of {len(rows)}", "v": str(total)}


def bare(item: Any) -> dict[str, Any]:
    """Return an item without its id."""
    return {key: value for key, value in item.items() if key != "_i"}


def salt(seed: int, number: int) -> int:
    """Return the seed of a node."""
    return seed * 31 + number


def is_poison(row: dict[str, Any], seed: int, poison: int) -> bool:
    """Return whether a node fails at a row, as often as it is tried."""
    return poison > 0 and _hash(row, seed + 1_000_003) % poison == 0


def failures_first(row: dict[str, Any], seed: int, flaky: int, retries: int) -> int:
    """Return how often a node fails at a row before it does not."""
    number = _hash(row, seed + 2_000_003)
    return 1 + number // 7 % retries if flaky and retries and number % flaky == 0 else 0


class Meter(CallCounter):
    """Counts the rows that an operator is given; by default all of them, else each row once a process.

    The latter is for operators whose calls fail: a call that is made again within a process, by a retry or with half
    of a batch, is no call that a death has made necessary.

    Args:
        path: the file.
        once: whether a row counts once a process.
    """

    def __init__(self, path: Path, *, once: bool) -> None:
        super().__init__(path)
        self._seen: set[str] | None = set() if once else None
        self._lock = threading.Lock() if once else None  # without it, it can be sent to a worker process

    def note(self, items: Sequence[Any]) -> None:
        """Count items."""
        if self._seen is not None and self._lock is not None:
            with self._lock:
                items = [item for item in items if str(item["_i"]) not in self._seen]
                self._seen.update(str(item["_i"]) for item in items)
        if items:
            note_world(self.path, ids_of(items))
            super().note(items)


JOURNAL = "TORTURE_JOURNAL"
"""The environment variable with the path of the journal of a disk that may lose power (`power`); for workers, too."""


def note_world(path: Path, data: bytes) -> None:
    """Write down in the journal, if one is kept, what is about to be appended to a file that is not on its disk."""
    if JOURNAL in os.environ:
        fd = os.open(os.environ[JOURNAL], os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, pickle.dumps(("world", str(path), data)))
        finally:
            os.close(fd)


def ids_of(items: Sequence[Any]) -> bytes:
    """Return the ids of items as lines, as a CallCounter writes them."""
    return b"".join(json.dumps(item["_i"]).encode() + b"\n" for item in items)


def write_ids(path: Path, items: Sequence[Any]) -> None:
    """Append the ids of items to a file, with one write."""
    note_world(path, ids_of(items))
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(fd, ids_of(items))
    finally:
        os.close(fd)


class TortureOperator(BaseOperator):
    """What all of them share.

    Args:
        node: what to do.
        number: which node it is in.
        seed: of the case.
        raised: a file for the ids of rows in calls that raise; None when nobody asks.
        mended: whether no row is poison any more.
    """

    version = "torture"
    """It is changed between two runs of an id, and its rows are the same."""
    stateful = True
    makes_mischief = False

    def __init__(self, node: Node, number: int, seed: int, raised: Path | None = None, *, mended: bool = False) -> None:
        self.name = f"{number} {node.kind} {node.style}"
        self.bisect = node.bisect
        self.node = node
        self.seed = salt(seed, number)
        self.poison = 0 if mended else node.poison
        self.raised = raised
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock() if self.poison or node.flaky else None  # it cannot be sent to a worker process

    def _check(self, items: Sequence[Any]) -> None:
        """Fail as the rows' fate is."""
        if self.makes_mischief and random.random() < mischief.SHARE:
            random.choice(mischief.MISCHIEF)()
        node = self.node
        if self._lock is None:
            return
        with self._lock:
            self._tries.update(str(item["_i"]) for item in items)
            tries = [self._tries[str(item["_i"])] for item in items]
        if not node.takes_batches and tries[0] > node.retries + 1:
            raise AssertionError(f"row {items[0]['_i']} was tried {tries[0]} times, with {node.retries} retries")
        error: Exception | None = None
        for item, tried in zip(items, tries, strict=True):
            row = bare(item)
            if is_poison(row, self.seed, self.poison):
                error = PoisonError(f"row {item['_i']} is poison")
            elif tried <= failures_first(row, self.seed, node.flaky, node.retries):
                error = error or FlakyError(f"row {item['_i']}, try {tried}")
        if error is not None:
            if self.raised is not None:
                write_ids(self.raised, items)
            raise error

    def fate(self, item: Any) -> Any:
        """Return what becomes of an item."""
        self._check((item,))
        return self._fate_of(item)

    def _fate_of(self, item: Any) -> Any:
        found = FATES[self.node.kind](bare(item), self.seed)
        return Rejected(REASON) if found is None and self.node.keep_rejected else found

    def batch_fate(self, items: Sequence[Any]) -> list[Any]:
        """Return what becomes of a batch."""
        self._check(items)
        if self.node.kind == "fold":
            return [folded([bare(item) for item in items], self.seed)]
        fate = FATES[self.node.kind]
        if self.node.style != "flat batch":
            return [self._fate_of(item) for item in items]
        flat: list[Any] = []
        for item in reversed(items):  # the rows say which item they are from
            result = fate(bare(item), self.seed)
            if result is not None:
                flat.append({**result, "_i": item["_i"]})
        return flat

    def pause(self) -> float:
        """Return how long a call takes, in seconds."""
        return random.random() * self.node.nap


class _Item(TortureOperator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.node.nap:
            time.sleep(self.pause())
        return self.fate(item)


class _AsyncItem(TortureOperator):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.node.nap:
            await asyncio.sleep(self.pause())
        return self.fate(item)


class _Batch(TortureOperator):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if self.node.nap:
            time.sleep(self.pause())
        return self.batch_fate(items)


class _AsyncBatch(TortureOperator):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if self.node.nap:
            await asyncio.sleep(self.pause())
        return self.batch_fate(items)


CLASSES: dict[str, type[TortureOperator]] = {
    "item": _Item,
    "async item": _AsyncItem,
    "batch": _Batch,
    "async batch": _AsyncBatch,
    "flat batch": _Batch,
}
