"""Random pipelines, made from a seed, and a plain Python model of what each of their nodes must write."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline
from llm_datagen.config import ExecutorKind, IfExists
from llm_datagen.testing import CallCounter, crash_at

from ..support import write_jsonl
from .forks import PlannedFailure

PIPELINE_ID = "t"

KINDS = ("map", "filter", "sieve", "fan", "fold")
STYLES = ("item", "async item", "batch", "async batch", "flat batch")

Rows = list[tuple[str, dict[str, Any]]]
"""Rows with their ids (as text) in order."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a case.

    Attributes:
        kind: what becomes of rows: one of KINDS.
        style: how the operator is written: one of STYLES.
        parallel_size, batch_size, ordered: as in NodeConfig.
        nap: seconds that a call takes at most; 0 is no time at all.
    """

    kind: str
    style: str
    parallel_size: int
    batch_size: int
    ordered: bool
    nap: float

    @property
    def takes_batches(self) -> bool:
        """Whether the operator has process_batch."""
        return "batch" in self.style


@dataclass(frozen=True, slots=True)
class Case:
    """A pipeline, its input and its settings. The same seed gives the same case."""

    seed: int
    rows: int
    nodes: tuple[Node, ...]
    streaming: bool
    async_mode: bool
    fsync: str
    queue_size: int
    flush_batch_size: int
    flush_interval: float
    between: str
    output: str
    id_scheme: str
    wide: bool
    executor: ExecutorKind = "auto"

    def __str__(self) -> str:
        nodes = " → ".join(
            f"{n.kind}/{n.style} p{n.parallel_size} b{n.batch_size}{' ordered' if n.ordered else ''} {n.nap * 1000:g}ms"
            for n in self.nodes
        )
        return (
            f"seed {self.seed}: {self.rows} rows, {'streaming' if self.streaming else 'sequential'}, "
            f"{'async' if self.async_mode else 'sync'}, queue {self.queue_size}, flush {self.flush_batch_size}, "
            f"fsync {self.fsync}, {self.between} {self.output}, ids {self.id_scheme}: {nodes}"
        )

    @property
    def is_ordered(self) -> bool:
        """Whether the order of the output is determined."""
        return all(node.ordered or node.parallel_size * node.batch_size == 1 for node in self.nodes)

    # The pipeline.

    def write_input(self, folder: Path) -> None:
        """Write the input file."""
        write_jsonl(folder / "in.jsonl", self._input())

    def _input(self) -> list[dict[str, str]]:
        pad = 'two\nlines, and "quotes" ' * (60 if self.wide else 1)
        return [{"k": f"row {n}", "v": str(n), "pad": pad[: n * 7 % len(pad)]} for n in range(self.rows)]

    def stream_path(self, folder: Path, number: int) -> Path:
        """Return where node `number` writes."""
        if number == len(self.nodes) - 1:
            return folder / f"out.{self.output}"
        return folder / "between" / PIPELINE_ID / f"node_{number}.{self.between}"

    def counter(self, folder: Path, number: int) -> CallCounter:
        """Return the counter of what node `number` was given."""
        return CallCounter(folder / f"calls_{number}")

    def pipeline(self, folder: Path, *, log: bool = False, fail: tuple[int, int] | None = None) -> UnifiedPipeline:
        """Return the pipeline, all of it in `folder`; `fail` is the node, and its call in this run, that raises."""
        operators = [
            self.counter(folder, number)(operator(node, number, self.seed)) for number, node in enumerate(self.nodes)
        ]
        if fail is not None:
            file = folder.with_name(f"{folder.name}.failing")
            file.unlink(missing_ok=True)
            operators[fail[0]] = crash_at(fail[1], file=file, error=PlannedFailure)(operators[fail[0]])
        return UnifiedPipeline(
            operators,
            input_uri=f"jsonl://{folder / 'in.jsonl'}",
            output_uri=f"{self.output}://{folder / f'out.{self.output}'}",
            base_path=folder / "between",
            default_protocol=f"{self.between}://",
            results_dir=folder / "results",
            log_file=folder / "logs" / "platform.log" if log else None,
            streaming=self.streaming,
            executor=self.executor,
            id_scheme="numeric" if self.id_scheme == "numeric" else "path",
            writer_config={
                "async_mode": self.async_mode,
                "queue_size": self.queue_size,
                "flush_batch_size": self.flush_batch_size,
                "flush_interval": self.flush_interval,
                "retry_interval": 0.02,
                "fsync": self.fsync,
            },
        )

    def create(
        self,
        folder: Path,
        *,
        log: bool = False,
        if_exists: IfExists = "resume",
        fail: tuple[int, int] | None = None,
    ) -> UnifiedPipeline:
        """Return the pipeline, created, or loaded to be resumed when it is there already."""
        configs = [
            {"parallel_size": n.parallel_size, "batch_size": n.batch_size, "ordered": n.ordered} for n in self.nodes
        ]
        return self.pipeline(folder, log=log, fail=fail).create(PIPELINE_ID, node_configs=configs, if_exists=if_exists)

    # The model.

    def expected(self) -> list[Rows]:
        """Return what each node must write. The order counts where `is_ordered`."""
        found: list[Rows] = []
        rows: Rows = [(str(n), row) for n, row in enumerate(self._input())]
        for number, node in enumerate(self.nodes):
            rows = self._after(node, salt(self.seed, number), rows)
            found.append(rows)
        return found

    def _after(self, node: Node, seed: int, rows: Rows) -> Rows:
        out: Rows = []
        if node.kind == "fold":
            for first in range(0, len(rows), node.batch_size):
                batch = rows[first : first + node.batch_size]
                row_id = batch[0][0] if len(batch) == 1 else f"{batch[0][0]}~{batch[-1][0]}_0"
                out.append((row_id, folded([row for _, row in batch], seed)))
            return out
        if node.style == "flat batch":  # its author turns each batch round, and that stays so
            size = node.batch_size
            rows = [row for first in range(0, len(rows), size) for row in reversed(rows[first : first + size])]
        for row_id, row in rows:
            result = FATES[node.kind](row, seed)
            if isinstance(result, list):
                out += [(self._child(row_id, k), child) for k, child in enumerate(result)]
            elif result is not None:
                out.append((row_id, result))
        return out

    def _child(self, row_id: str, k: int) -> str:
        return str(int(row_id) * 10_000 + k) if self.id_scheme == "numeric" else f"{row_id}_{k}"

    def in_processes(self) -> Case:
        """Return the same case with plain operators in worker processes."""
        nodes = tuple(replace(node, style=node.style.removeprefix("async ")) for node in self.nodes)
        return replace(self, nodes=nodes, executor="process")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def salt(seed: int, number: int) -> int:
    """Return the seed of a node."""
    return seed * 31 + number


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
    return {"k": f"fold of {len(rows)}", "v": str(total), "pad": rows[0]["pad"]}


def bare(item: Any) -> dict[str, Any]:
    """Return an item without its id."""
    return {key: value for key, value in item.items() if key != "_i"}


class _Operator(BaseOperator):
    bisect = False  # what they make of a batch is compared with what a run makes in which nothing fails

    def __init__(self, node: Node, number: int, seed: int) -> None:
        self.name = f"{number} {node.kind} {node.style}"
        self.kind = node.kind
        self.flat = node.style == "flat batch"
        self.seed = salt(seed, number)
        self.nap = node.nap

    def fate(self, item: Any) -> Any:
        return FATES[self.kind](bare(item), self.seed)

    def batch_fate(self, items: Sequence[Any]) -> list[Any]:
        if self.kind == "fold":
            return [folded([bare(item) for item in items], self.seed)]
        if not self.flat:
            return [self.fate(item) for item in items]
        flat: list[Any] = []
        for item in reversed(items):  # the rows say which item they are from
            result = self.fate(item)
            if result is not None:
                flat.append({**result, "_i": item["_i"]})
        return flat

    def pause(self) -> float:
        return random.random() * self.nap


class _Item(_Operator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.nap:
            time.sleep(self.pause())
        return self.fate(item)


class _AsyncItem(_Operator):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        if self.nap:
            await asyncio.sleep(self.pause())
        return self.fate(item)


class _Batch(_Operator):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if self.nap:
            time.sleep(self.pause())
        return self.batch_fate(items)


class _AsyncBatch(_Operator):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        if self.nap:
            await asyncio.sleep(self.pause())
        return self.batch_fate(items)


def operator(node: Node, number: int, seed: int) -> BaseOperator:
    """Return the operator of a node."""
    classes = {
        "item": _Item,
        "async item": _AsyncItem,
        "batch": _Batch,
        "async batch": _AsyncBatch,
        "flat batch": _Batch,
    }
    return classes[node.style](node, number, seed)


def random_case(seed: int, *, rows: int | None = None) -> Case:
    """Return the case of a seed."""
    dice = random.Random(seed)
    id_scheme = "numeric" if dice.random() < 0.15 else "path"
    all_ordered = dice.random() < 0.35
    nodes: list[Node] = []
    is_determined = True  # whether the next node sees its rows in the same order in every run
    for _ in range(dice.choice((1, 2, 2, 3, 4))):
        kind = dice.choice(("map", "map", "filter", "sieve", "fan", "fold"))
        if kind == "fold" and (id_scheme == "numeric" or not is_determined):
            kind = "map"
        style = dice.choice(STYLES)
        if kind == "fold":
            style = dice.choice(("batch", "async batch"))
        elif kind == "fan" and style == "flat batch":
            style = "batch"
        node = Node(
            kind=kind,
            style=style,
            parallel_size=dice.randint(1, 4),
            batch_size=dice.randint(1, 5),
            ordered=all_ordered or dice.random() < 0.2,
            nap=dice.choice((0.0, 0.0, 0.001, 0.004)),
        )
        nodes.append(node)
        is_determined = is_determined and (node.ordered or node.parallel_size * node.batch_size == 1)
    return Case(
        seed=seed,
        rows=rows or dice.choice((dice.randint(8, 60), dice.randint(100, 300))),
        nodes=tuple(nodes),
        streaming=dice.random() < 0.7,
        async_mode=dice.random() < 0.6,
        fsync=dice.choice(("never", "flush", "close")),
        queue_size=dice.choice((1, 2, 3, 7, 20, 200)),
        flush_batch_size=dice.choice((1, 2, 5, 50)),
        flush_interval=dice.choice((0.002, 0.02, 0.5)),
        between=dice.choice(("jsonl", "csv")),
        output=dice.choice(("jsonl", "csv")),
        id_scheme=id_scheme,
        wide=dice.random() < 0.25,
    )
