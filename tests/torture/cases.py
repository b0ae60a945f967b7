"""Random pipelines, made from a seed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.config import ExecutorKind, IfExists
from llm_datagen.streams.storage.compression import compression_of
from llm_datagen.testing import crash_at

from .forks import PlannedFailure
from .operators import CLASSES, Meter

PIPELINE_ID = "t"

KINDS = ("map", "filter", "sieve", "fan", "fold")
STYLES = ("item", "async item", "batch", "async batch", "flat batch")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a case.

    Attributes:
        kind: what becomes of rows: one of KINDS.
        style: how the operator is written: one of STYLES.
        parallel_size, batch_size, ordered: as in NodeConfig.
        nap: seconds that a call takes at most; 0 is no time at all.
        on_error, retries, delivery: as in NodeConfig.
        poison: about one row of so many fails, however often it is tried; 0 is none.
        flaky: about one row of so many fails, up to `retries` times; 0 is none.
        bisect: whether the engine may look for the row at fault in a batch.
    """

    kind: str
    style: str
    parallel_size: int
    batch_size: int
    ordered: bool
    nap: float
    on_error: str = "fail"
    retries: int = 0
    delivery: str = "exactly_once"
    poison: int = 0
    flaky: int = 0
    bisect: bool = False

    @property
    def takes_batches(self) -> bool:
        """Whether the operator has process_batch."""
        return "batch" in self.style

    @property
    def fails(self) -> bool:
        """Whether calls of the operator raise."""
        return bool(self.poison or self.flaky)

    @property
    def keeps_order(self) -> bool:
        """Whether its rows come out in the same order in every run."""
        return self.ordered or self.parallel_size * self.batch_size == 1

    def config(self) -> dict[str, Any]:
        """Return the settings for the engine."""
        names = ("parallel_size", "batch_size", "ordered", "on_error", "retries", "delivery")
        return {"retry_wait": 0.001, **{name: getattr(self, name) for name in names}}

    def __str__(self) -> str:
        parts = [f"{self.kind}/{self.style} p{self.parallel_size} b{self.batch_size}"]
        parts += ["ordered"] * self.ordered + ["at_most_once"] * (self.delivery == "at_most_once")
        if self.on_error != "fail":
            parts.append(f"{self.on_error} poison {self.poison} flaky {self.flaky} retries {self.retries}")
            parts += ["bisect"] * (self.bisect and self.takes_batches)
        return " ".join([*parts, f"{self.nap * 1000:g}ms"])


@dataclass(frozen=True, slots=True)
class Case:
    """A pipeline, its input and its settings. The same seed gives the same case.

    `bad_lines`: about one line of so many of the input cannot be parsed; 0 is none. The rest is as in UnifiedPipeline.
    """

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
    bad_lines: int = 0
    executor: ExecutorKind = "auto"
    mischief: bool = False
    compression: str = ""
    files: int = 1

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.rows} rows{' (some bad)' if self.bad_lines else ''}, "
            f"{'streaming' if self.streaming else 'sequential'}, "
            f"{'async' if self.async_mode else 'sync'}, queue {self.queue_size}, flush {self.flush_batch_size}, "
            f"fsync {self.fsync}, {self.between} {self.output}{self.compression}, ids {self.id_scheme}: "
            + " → ".join(map(str, self.nodes))
        )

    @property
    def is_ordered(self) -> bool:
        """Whether the order of the output is determined."""
        return all(node.keeps_order for node in self.nodes)

    @property
    def can_be_replayed(self) -> bool:
        """Whether what comes of a replay is determined: rows that come later change no batch that has been made."""
        return any(
            node.on_error == "dead_letter" or node.delivery == "at_most_once" for node in self.nodes
        ) and not any(
            node.kind == "fold" or (node.poison and node.takes_batches and not node.bisect) for node in self.nodes
        )

    # The pipeline.

    def write_input(self, folder: Path) -> None:
        """Write the input file."""
        rows = self.input_rows()
        pack = compression_of(self.compression).compress if self.compression else bytes
        for number in range(self.files):  # some may be empty
            part = rows[number * len(rows) // self.files : (number + 1) * len(rows) // self.files]
            text = "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in part).encode()
            half = len(text) // 2
            path = self.input_path(folder, f"{number:04}")
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(pack(text[:half]) + pack(text[half:]))

    def input_path(self, folder: Path, file: str = "*") -> Path:
        """Return where the input lies; of many files the pattern, or the path of one."""
        return folder / f"{'in' if self.files == 1 else f'in/{file}'}.jsonl{self.compression}"

    def input_rows(self) -> list[dict[str, str] | str]:
        """Return the rows of the input; a line that is no row is text."""
        pad = 'two\nlines, and "quotes" ' * (60 if self.wide else 1)
        rows: list[dict[str, str] | str] = []
        for n in range(self.rows):
            if self.is_bad_line(n):
                rows.append(f'{{"k": "line {n} is no row')
            else:
                rows.append({"k": f"row {n}", "v": str(n), "pad": pad[: n * 7 % len(pad)]})
        return rows

    def is_bad_line(self, number: int) -> bool:
        """Return whether a line of the input cannot be parsed."""
        return self.bad_lines > 0 and random.Random(f"{self.seed} line {number}").randrange(self.bad_lines) == 0

    def child(self, row_id: str, k: int) -> str:
        """Return the id of a child."""
        return str(int(row_id) * 10_000 + k) if self.id_scheme == "numeric" else f"{row_id}_{k}"

    def stream_path(self, folder: Path, number: int) -> Path:
        """Return where node `number` writes."""
        if number == len(self.nodes) - 1:
            return folder / f"out.{self.output}{self.compression}"
        return folder / "between" / PIPELINE_ID / f"node_{number}.{self.between}"

    def counter(self, folder: Path, number: int) -> Meter:
        """Return the counter of what node `number` was given."""
        return Meter(folder / f"calls_{number}", once=self.nodes[number].fails)

    def raised(self, folder: Path, number: int) -> Path:
        """Return the file with the ids of rows in calls of node `number` that raised."""
        return folder / f"raised_{number}"

    def pipeline(
        self,
        folder: Path,
        *,
        log: bool = False,
        fail: tuple[int, int] | None = None,
        mended: bool = False,
    ) -> UnifiedPipeline:
        """Return the pipeline, all of it in `folder`.

        Args:
            folder: where.
            log: whether it writes a platform log.
            fail: a node, and its call in this run, that raises.
            mended: whether no row is poison any more, where rows are dead-lettered.
            note: called before a call of an operator is counted, with the file where it is, and the items.
        """
        operators: list[Any] = []
        for number, node in enumerate(self.nodes):
            counter = self.counter(folder, number)
            operator = CLASSES[node.style](
                node,
                number,
                self.seed,
                self.raised(folder, number),
                mended=mended and node.on_error == "dead_letter",
            )
            operator.makes_mischief = self.mischief
            operators.append(counter(operator))
        if fail is not None:
            file = folder.with_name(f"{folder.name}.failing")
            file.unlink(missing_ok=True)
            operators[fail[0]] = crash_at(fail[1], file=file, error=PlannedFailure)(operators[fail[0]])
        if self.mischief:  # operators change the working directory; paths that count from it must not move
            os.chdir(folder.parent)
            folder = Path(folder.name)
        return UnifiedPipeline(
            operators,
            input_uri=f"jsonl://{self.input_path(folder)}",
            output_uri=f"{self.output}://{folder / f'out.{self.output}'}{self.compression}",
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
        configs = [node.config() for node in self.nodes]
        return self.pipeline(folder, log=log, fail=fail).create(PIPELINE_ID, node_configs=configs, if_exists=if_exists)


def random_case(
    seed: int,
    *,
    rows: int | None = None,
    processes: bool = False,
    mischief: bool = False,
    compression: str = "",
    files: int = 1,
    **fixed: Any,
) -> Case:
    """Return the case of a seed.

    Args:
        seed: the seed.
        rows: rows of the input; None leaves it to the seed.
        processes: whether its operators are plain, and run in worker processes.
        mischief: whether its operators fork, start pools and change the working directory.
        compression: the ending that tells how input and output are compressed; empty: they are not.
        files: of how many files the input is made.
        fixed: `delivery` of all nodes, and `fsync`, if they are not left to the seed.
    """
    dice = random.Random(seed)
    id_scheme = "numeric" if dice.random() < 0.15 else "path"
    all_ordered = dice.random() < 0.35
    nodes: list[Node] = []
    for _ in range(dice.choice((1, 2, 2, 3, 4))):
        nodes.append(_random_node(dice, nodes, id_scheme, all_ordered))
    case = Case(
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
    case = replace(_with_failures(case, random.Random(f"failures {seed}"), **fixed), mischief=mischief)
    case = replace(case, compression=compression, files=files)
    return _in_processes(case) if processes else case


def _in_processes(case: Case) -> Case:
    nodes = tuple(  # no failures: what counts once a process has no meaning there
        replace(node, style=node.style.removeprefix("async "), poison=0, flaky=0, retries=0, on_error="fail")
        for node in case.nodes
    )
    return replace(case, nodes=nodes, bad_lines=0, executor="process")


def _random_node(dice: random.Random, before: Sequence[Node], id_scheme: str, all_ordered: bool) -> Node:
    kind = dice.choice(("map", "map", "filter", "sieve", "fan", "fold"))
    if kind == "fold" and (id_scheme == "numeric" or not all(node.keeps_order for node in before)):
        kind = "map"
    style = dice.choice(STYLES)
    if kind == "fold":
        style = dice.choice(("batch", "async batch"))
    elif kind == "fan" and style == "flat batch":
        style = "batch"
    return Node(
        kind=kind,
        style=style,
        parallel_size=dice.randint(1, 4),
        batch_size=dice.randint(1, 5),
        ordered=all_ordered or dice.random() < 0.2,
        nap=dice.choice((0.0, 0.0, 0.001, 0.004)),
    )


def _with_failures(case: Case, dice: random.Random, *, delivery: str | None = None, fsync: str | None = None) -> Case:
    """Return the case with calls that raise, policies, lines that are no rows, and another delivery: half of them."""
    fails, few = dice.random() < 0.5, dice.random() < 0.3
    nodes = []
    for number, node in enumerate(case.nodes):
        retries = dice.choice((0, 0, 1, 2))
        some = replace(
            node,
            on_error=dice.choice(("skip", "dead_letter", "dead_letter")),
            retries=retries,
            poison=dice.choice((0, 3, 6, 12)),
            flaky=dice.choice((0, 4)) if retries else 0,
            # Which rows fall with a bad one depends on the batches, and so on the order of the rows before.
            bisect=dice.random() < 0.75 or not all(other.keeps_order for other in case.nodes[:number]),
        )
        if not fails or dice.random() < 0.3:
            some = node
        how = "at_most_once" if few and dice.random() < 0.7 else "exactly_once"
        nodes.append(replace(some, delivery=delivery or how))
    bad_lines = dice.choice((0, 5, 15)) if nodes[0].on_error != "fail" else 0
    return replace(case, nodes=tuple(nodes), bad_lines=bad_lines, fsync=fsync or case.fsync)
