"""Random pipelines, made from a seed."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.config import ExecutorKind, IfExists
from llm_datagen.testing import crash_at

from . import exports, inputs
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
        keep_rejected: as in NodeConfig; the operator then gives a reason for each row that it leaves out.
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
    keep_rejected: bool = False

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
        names = ("parallel_size", "batch_size", "ordered", "on_error", "retries", "delivery", "keep_rejected")
        return {"retry_wait": 0.001, **{name: getattr(self, name) for name in names}}

    def __str__(self) -> str:
        parts = [f"{self.kind}/{self.style} p{self.parallel_size} b{self.batch_size}"]
        parts += ["ordered"] * self.ordered + ["at_most_once"] * (self.delivery == "at_most_once")
        parts += ["keeps rejected"] * self.keep_rejected
        if self.on_error != "fail":
            parts.append(f"{self.on_error} poison {self.poison} flaky {self.flaky} retries {self.retries}")
            parts += ["bisect"] * (self.bisect and self.takes_batches)
        return " ".join([*parts, f"{self.nap * 1000:g}ms"])


@dataclass(frozen=True, slots=True)
class Case:
    """A pipeline, its input and its settings. The same seed gives the same case.

    `bad_lines`: about one line of so many of the input cannot be parsed; 0 is none. `source`: one of `inputs.SOURCES`.
    `target`: that of the last node; 0 is none. `exports`: some of `exports.EXPORTS`; with `is_exported`, the first is
    the output. The rest is as in UnifiedPipeline.
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
    target: int = 0
    executor: ExecutorKind = "auto"
    mischief: bool = False
    compression: str = ""
    files: int = 1
    source: str = "jsonl"
    exports: tuple[str, ...] = ()
    is_exported: bool = False

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.rows} rows{' (some bad)' if self.bad_lines else ''} "
            f"of {self.files} {self.source}, "
            f"{'streaming' if self.streaming else 'sequential'}, "
            f"{'async' if self.async_mode else 'sync'}, queue {self.queue_size}, flush {self.flush_batch_size}, "
            f"fsync {self.fsync}, {self.between} {self.output}{self.compression}, ids {self.id_scheme}, "
            f"exports {'as output ' * self.is_exported}{' '.join(self.exports) or 'none'}: "
            + " → ".join(map(str, self.nodes))
            + (f" → {self.target}" if self.target else "")
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

    def input_rows(self) -> list[dict[str, str] | str]:
        """Return the rows of the input; a line that is no row is text."""
        pad = 'two\nlines, and "quotes" ' * (60 if self.wide else 1)
        rows: list[dict[str, str] | str] = []
        for n in range(self.rows):
            if self.is_bad_line(n):
                rows.append(f'{{"k": "line {n} is no row')
            else:
                rows.append({"k": f"row {n}", "v": str(n), "pad": pad[: n * 7 % len(pad)], "p": f"p{n % 3}"})
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
            return self.output_path(folder)
        return folder / "between" / PIPELINE_ID / f"node_{number}.{self.between}"

    def output_path(self, folder: Path) -> Path:
        """Return where the last node writes."""
        if self.is_exported:
            return folder / "between" / PIPELINE_ID / "output.jsonl"
        return folder / f"out.{self.output}{self.compression}"

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
        settings = {
            **inputs.settings(self, folder),
            **exports.settings(self, folder),
            "base_path": folder / "between",
            "results_dir": folder / "results",
        }
        return UnifiedPipeline(
            operators,
            **self.located(settings, folder),
            default_protocol=f"{self.between}://",
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

    def located(self, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Return settings that name files, as they are given to the pipeline."""
        return settings

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
        configs[-1] |= {"target": self.target} if self.target else {}
        return self.pipeline(folder, log=log, fail=fail).create(PIPELINE_ID, node_configs=configs, if_exists=if_exists)
