"""A case in a folder: run it in a child, kill it, look at what is on disk, compare it with the model."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from llm_datagen import NodeFailedError
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.commits import read_log
from llm_datagen.testing import Fault, FaultPlan, inject

from ..support import nothing_left
from .cases import PIPELINE_ID, Case, Node, Rows
from .forks import Death, PlannedFailure, fork


class Lab:
    """A case in a folder.

    Args:
        case: the case.
        folder: where; it is made anew.
    """

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.folder = folder
        self.expected = case.expected()
        self.scratch = folder.with_name(f"{folder.name}.said")
        self.reset()

    def reset(self) -> None:
        """Start from nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.case.write_input(self.folder)

    def save_as(self, other: Path) -> None:
        """Copy all that is on disk."""
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.folder, other)

    def restore(self, other: Path) -> None:
        """Put back what `save_as` copied."""
        shutil.rmtree(self.folder)
        shutil.copytree(other, self.folder)

    # Running.

    def go(
        self,
        *,
        kill_after: float | None = None,
        kill_with: int = signal.SIGKILL,
        plan: Fault | FaultPlan | None = None,
        fail: tuple[int, int] | None = None,
    ) -> Death:
        """Create or resume the pipeline and run it, in a child; `fail` is the node, and its call, that raises."""
        return fork(lambda: self._go(plan, fail=fail), self.scratch, kill_after=kill_after, kill_with=kill_with)

    def record(self) -> tuple[Death, list[tuple[str, str]]]:
        """Run it, and return the failpoints that it reached, in order."""
        found = self.folder.with_name(f"{self.folder.name}.points")
        found.unlink(missing_ok=True)
        death = fork(lambda: self._go(None, found), self.scratch)
        return death, [tuple(point) for point in json.loads(found.read_text())] if found.exists() else []

    def _go(
        self, plan: Fault | FaultPlan | None, points: Path | None = None, fail: tuple[int, int] | None = None
    ) -> None:
        with nothing_left(), inject(plan) as disk:
            try:
                report = self.case.create(self.folder, fail=fail).run()
            except NodeFailedError as error:
                if isinstance(error.__cause__, PlannedFailure):
                    raise PlannedFailure from None
                raise
        assert str(report.status) == "completed", report
        if points is not None:
            points.write_text(json.dumps(disk.hits))

    # Looking.

    def problems(self) -> list[str]:
        """Return what is wrong with the files of a run that has ended: nothing lost, repeated, torn or left over."""
        found: list[str] = []
        for number, expected in enumerate(self.expected):
            path = self.case.stream_path(self.folder, number)
            try:
                found += [f"{path.name}: {what}" for what in self._differences(path, expected)]
            except Exception as error:  # noqa: BLE001 - whatever cannot be read is a finding
                found.append(f"{path.name} cannot be read: {error!r}")
        left = [str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.suffix in {".tmp", ".commits"}]
        if left:
            found.append(f"left over: {left}")
        image = json.loads((self.folder / "results" / PIPELINE_ID / "runtime.json").read_bytes())
        if image["status"] != "completed":
            found.append(f"runtime.json says {image['status']}")
        for number, node in enumerate(image["nodes"]):
            rows_in = self.case.rows if number == 0 else len(self.expected[number - 1])
            if (node["rows_in"], node["rows_out"]) != (rows_in, len(self.expected[number])):
                found.append(
                    f"runtime.json: node_{number} has {node['rows_in']} → {node['rows_out']}, "
                    f"not {rows_in} → {len(self.expected[number])}"
                )
        return found

    def _differences(self, path: Path, expected: Rows) -> list[str]:
        data = path.read_bytes()
        if data and not data.endswith(b"\n"):
            return ["the last line is torn"]
        rows = _rows(path, data)
        wanted = Counter(_key(row_id, row) for row_id, row in expected)
        there = Counter(_key(row_id, row) for row_id, row in rows)
        found = []
        if wanted - there:
            found.append(f"{(wanted - there).total()} rows lost, such as {next(iter(wanted - there))[:100]}")
        if there - wanted:
            repeated = sum((there - wanted)[key] for key in there if key in wanted)
            found.append(f"{repeated} rows repeated, {(there - wanted).total() - repeated} foreign")
        if not found and self.case.is_ordered and rows != expected:
            found.append("the order is not that of the input")
        stream = StreamFactory.create(str(path))
        manifest = stream.manifest()
        if manifest is None or not manifest.complete or manifest.rows != len(expected):
            found.append(f"the seal is {manifest}")
        stream.verify()
        return found

    def uncommitted(self) -> list[int]:
        """Return, for each node, the rows given to its operator so far (repeats included) that no commit covers."""
        found = []
        for number in range(len(self.case.nodes)):
            stream = StreamFactory.create(str(self.case.stream_path(self.folder, number)))
            manifest = stream.manifest()
            logged = read_log(stream.disk, stream.commits_path) if manifest is None else None
            position = manifest.position() if manifest is not None else logged[1] if logged is not None else None
            covered = 0 if position is None else position.coverage.rows
            found.append(self.case.counter(self.folder, number).total() - covered)
        return found

    def bounds(self) -> list[int]:
        """Return, for each node, how many rows a kill can make the operator be given again, at most."""
        sizes = [self.case.rows, *(len(rows) for rows in self.expected)]
        found = []
        for size, node in zip(sizes, self.case.nodes, strict=False):
            rows = bound(self.case, node)
            found.append(size if rows is None else min(rows, size))
        return found


def bound(case: Case, node: Node) -> int | None:
    """Return how many rows were given to an operator, and are not committed, at any instant, at most.

    With c calls at once, s rows a call, and tasks of t rows (t is at most `queue_size`, or one call):

    * c x t rows are with workers: being processed, or processed and waiting for room in the queue, or (in sync mode)
      for their commit;
    * in async mode, `queue_size` rows (or one task that is larger) are in the writer's hands;
    * an ordered node holds what finished early: it hands out no row that is 8 c s + 4 t ahead of the first that was
      not delivered, and the last task handed out adds its t.

    The queue counts the rows that come out. An operator that makes one row of a batch can have that many batches
    there; for one that filters, the settings give no bound (its source has one).

    Returns:
        The bound, in rows that go in; None when there is none.
    """
    if case.async_mode and node.kind in {"filter", "sieve", "fan"}:
        return None
    step = node.batch_size if node.takes_batches else 1
    calls = node.parallel_size * (1 if node.takes_batches else node.batch_size)
    task = max(1, min(4096, case.queue_size) // step) * step
    rows = calls * task
    if case.async_mode:
        rows += max(case.queue_size, task) * (step if node.kind == "fold" else 1)
    if node.ordered:
        rows += 8 * calls * step + 5 * task
    return rows


def _rows(path: Path, data: bytes) -> Rows:
    """Return the rows of a file, read without the engine."""
    found: list[dict[str, Any]]
    if path.suffix == ".csv":
        found = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)) if data else []
    else:
        found = [json.loads(line) for line in data.splitlines()]
    rows: Rows = []
    for row in found:
        if None in row or None in row.values():
            raise ValueError(f"a row has too many or too few cells: {row}")
        rows.append((str(row["_i"]), {key: value for key, value in row.items() if key != "_i"}))
    return rows


def _key(row_id: str, row: dict[str, Any]) -> str:
    return json.dumps([row_id, row], sort_keys=True)
