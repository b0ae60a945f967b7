"""A case in a folder: run it in a child, kill it, look at what is on disk, compare it with the model."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from pathlib import Path

from llm_datagen import DatagenError, NodeFailedError, StreamError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.rejected import read_rejected
from llm_datagen.testing import Fault, FaultPlan, inject
from llm_datagen.testing.storage import FaultyStorage

from ..kit.support import nothing_left
from . import exports, inputs
from .bounds import bound
from .cases import PIPELINE_ID, Case
from .files import key_of, rows_in, run_state_problems, unpacked, whole_lines
from .forks import HANG_SECONDS, REFUSED_CODE, Death, PlannedFailure, fork
from .model import DeadLetter, Fate, fates, text
from .power import journaled

FULL = "No space left"


class Lab:
    """A case in a folder.

    Args:
        case: the case.
        folder: where; it is made anew.
    """

    hangs_after = HANG_SECONDS
    """Seconds after which a run hangs."""

    def __init__(self, case: Case, folder: Path) -> None:
        self.case = case
        self.folder = folder
        self.fates = fates(case)
        self.scratch = folder.with_name(f"{folder.name}.said")
        self.journal = folder.with_name(f"{folder.name}.journal")
        self.reset()

    def reset(self) -> None:
        """Start from nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        inputs.write(self.case, self.folder)

    def save_as(self, other: Path) -> None:
        """Copy all that is on disk."""
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(self.folder, other)

    def restore(self, other: Path) -> None:
        """Put back what `save_as` copied."""
        shutil.rmtree(self.folder)
        shutil.copytree(other, self.folder)

    def clean(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("said", "journal", "points", "failing"):
            self.folder.with_name(f"{self.folder.name}.{name}").unlink(missing_ok=True)

    # Running.

    def go(
        self,
        *,
        kill_after: float | None = None,
        kill_with: int = signal.SIGKILL,
        plan: Fault | FaultPlan | None = None,
        fail: tuple[int, int] | None = None,
        replay: bool = False,
        journal: bool = False,
    ) -> Death:
        """Create or resume the pipeline and run it, in a child.

        Args:
            kill_after: seconds after which it is killed; None lets it live.
            kill_with: the signal.
            plan: what goes wrong with its disk. A disk that is full makes the death "failed".
            fail: a node, and its call, that raises.
            replay: whether the rows that were dead-lettered are mended, and done again.
            journal: whether its disk is one that may lose power, and keeps a journal.
        """
        self.journal.write_bytes(b"")  # it may be killed before its first step

        def work() -> None:
            with journaled(self.journal) if journal else inject(plan) as storage:
                self._go(storage, fail=fail, replay=replay)

        return fork(work, self.scratch, kill_after=kill_after, kill_with=kill_with, hangs_after=self.hangs_after)

    def record(self) -> tuple[Death, list[tuple[str, str]]]:
        """Run it, and return the failpoints that it reached, in order."""
        found = self.folder.with_name(f"{self.folder.name}.points")
        found.unlink(missing_ok=True)

        def work() -> None:
            with inject(None) as storage:
                self._go(storage)
                found.write_text(json.dumps(storage.hits))

        death = fork(work, self.scratch)
        return death, [tuple(point) for point in json.loads(found.read_text())] if found.exists() else []

    def _go(self, storage: FaultyStorage, *, fail: tuple[int, int] | None = None, replay: bool = False) -> None:
        refusal = ""
        status = "completed"
        inputs.open_standard_input(self.case, self.folder)
        with nothing_left():
            try:
                if replay:
                    pipeline = self.case.pipeline(self.folder, mended=True).replay(PIPELINE_ID)
                else:
                    pipeline = self.case.create(self.folder, fail=fail)
                status = str(pipeline.run().status)
            except DatagenError as error:
                if isinstance(error.__cause__, PlannedFailure) or (
                    storage.fired and FULL in f"{error} {error.__cause__}"
                ):
                    raise PlannedFailure from None
                refusal = f"{error} {error.__cause__ or ''}"
                if isinstance(error, NodeFailedError) and not isinstance(error.__cause__, DatagenError):
                    raise
        if refusal:
            assert str(self.folder) in refusal, f"the error names no file: {refusal}"
            print(refusal)
            raise SystemExit(REFUSED_CODE)
        assert status == "completed", status

    # Looking.

    def stream(self, number: int) -> Stream:
        """Return what node `number` writes."""
        return StreamFactory.create(str(self.case.stream_path(self.folder, number)))

    def dead_letters(self, number: int) -> list[DeadLetter]:
        """Return the dead letters of a node that are committed; they are read without the engine."""
        stream = self.stream(number)
        found = position_of(stream)
        path = Path(stream.errors_path)
        size = found[1].errors_bytes if found else 0
        dead_letters: list[DeadLetter] = []
        for line in (path.read_bytes()[:size] if size and path.exists() else b"").splitlines():
            value = json.loads(line)
            row = value["raw"] if "raw" in value else {k: v for k, v in value["input"].items() if k != "_i"}
            dead_letters.append((str(value["_i"]), value["error"]["kind"], value["attempts"], text(row)))
        return dead_letters

    def problems(self, *, mended: bool = False) -> list[str]:
        """Return what is wrong with the files of a run that has ended: nothing lost, repeated, torn or left over.

        Args:
            mended: whether the dead letters were replayed by operators that fail no more.
        """
        try:
            lost = [
                {row[0] for row in self.dead_letters(n) if row[1] == "Abandoned"} for n in range(len(self.case.nodes))
            ]
        except (OSError, ValueError, KeyError, StreamError) as error:
            return [f"dead letters cannot be read: {error!r}"]
        wanted = fates(self.case, lost, mended=mended) if mended or any(lost) else self.fates
        found: list[str] = []
        for number in range(len(wanted)):
            found += self.node_problems(number, wanted[number], mended=mended)
            if lost[number] and self.case.nodes[number].delivery != "at_most_once":
                found.append(f"node_{number} has abandoned {len(lost[number])} rows, and may not")
        left = [
            str(p.relative_to(self.folder))
            for p in self.folder.rglob("*")
            if p.suffix in {".tmp", ".commits", ".dispatched"}
        ]
        if left:
            found.append(f"left over: {left}")
        if not found and self.case.exports:
            last = self.case.stream_path(self.folder, len(wanted) - 1)
            found += exports.problems(self.case, self.folder, rows_in(last, unpacked(last)))
        run_state = json.loads((self.folder / "results" / PIPELINE_ID / "runtime.json").read_bytes())
        return found + run_state_problems(run_state, wanted)

    def node_problems(self, number: int, fate: Fate, *, mended: bool = False) -> list[str]:
        """Return what is wrong with the files of a node that has ended."""
        path = self.case.stream_path(self.folder, number)
        try:
            found = self._differences(number, fate, may_be_disordered=mended)
            there, wanted = Counter(self.dead_letters(number)), fate.dead_letters
            if there != wanted:
                lost, more = wanted - there, there - wanted
                found.append(f"{lost.total()} dead letters lost {[*lost][:2]}, {more.total()} too many {[*more][:2]}")
            rejected = Counter(str(row["_i"]) for row in read_rejected(self.stream(number), checked=True))
            if rejected != fate.rejected:
                gone, extra = fate.rejected - rejected, rejected - fate.rejected
                names = f"{[*gone][:2]}, {extra.total()} too many {[*extra][:2]}"
                found.append(f"{gone.total()} rejected rows lost {names}")
            file, place = Path(f"{path}.errors.jsonl"), position_of(self.stream(number))
            size = file.stat().st_size if file.exists() else 0
            if place is None or size != place[1].errors_bytes:
                found.append(f"the dead letters' file has {size} bytes")
        except Exception as error:  # noqa: BLE001 - whatever cannot be read is a finding
            return [f"{path.name} cannot be read: {error!r}"]
        return [f"{path.name}: {what}" for what in found]

    def _differences(self, number: int, fate: Fate, *, may_be_disordered: bool) -> list[str]:
        path, expected = self.case.stream_path(self.folder, number), fate.rows
        data = unpacked(path)
        if data and not data.endswith(b"\n"):
            return ["the last line is torn"]
        rows = rows_in(path, data)
        wanted = Counter(key_of(row_id, row) for row_id, row in expected)
        there = Counter(key_of(row_id, row) for row_id, row in rows)
        found = []
        if wanted - there:
            found.append(f"{(wanted - there).total()} rows lost, such as {next(iter(wanted - there))[:100]}")
        if there - wanted:
            repeated = sum((there - wanted)[key] for key in there if key in wanted)
            found.append(f"{repeated} rows repeated, {(there - wanted).total() - repeated} foreign")
        if not found and self.case.is_ordered and not may_be_disordered and rows != expected:
            found.append("the order is not that of the input")
        stream = self.stream(number)
        seal = stream.read_seal()
        if seal is None or not seal.complete or seal.rows != len(expected):
            found.append(f"the seal is {seal}")
        elif seal.failed[:2] != (fate.skipped, fate.dead_letters.total()):
            found.append(f"the seal counts {seal.failed}, not {fate.skipped} and {fate.dead_letters.total()}")
        stream.verify()
        return found

    def found_by_verify(self) -> list[str]:
        """Return what `llm-datagen verify`, or a reader of exports, would find wrong now."""
        folder = RunFolder(self.folder / "results", PIPELINE_ID)
        accounts = verify(folder.load()) if folder.exists() else []  # else the run was not created yet
        return [what for account in accounts for what in account.findings] + exports.torn(self.case, self.folder)

    def finished(self) -> list[int]:
        """Return the nodes whose output is sealed now, and complete."""
        found = []
        for number in range(len(self.case.nodes)):
            seal = self.stream(number).read_seal()
            if seal is not None and seal.complete:
                found.append(number)
        return found

    def uncommitted(self) -> list[int]:
        """Return, for each node, the rows given to its operator so far (repeats included) that no commit covers.

        For a node that abandons rows: the rows that were abandoned so far, with those that a resume will abandon.
        """
        found = []
        for number, node in enumerate(self.case.nodes):
            place = position_of(self.stream(number))
            spans = [] if place is None else [(span.start, span.end) for span in place[1].coverage]
            if node.delivery == "at_most_once":
                done = {n for first, end in spans for n in range(first, end)}
                buried = sum(dead_letter[1] == "Abandoned" for dead_letter in self.dead_letters(number))
                found.append(buried + len(self._handed_out(number) - done))
                continue
            bad = self.case.is_bad_line if number == 0 else lambda _: False
            given = sum(not bad(n) for first, end in spans for n in range(first, end))
            found.append(self.case.counter(self.folder, number).total() - given)
        return found

    def _handed_out(self, number: int) -> set[int]:
        path = Path(self.stream(number).dispatched_path)
        out: set[int] = set()
        for line in whole_lines(path):
            _, _, sign, first, end, *_ = line.split()
            rows = range(int(first), int(end))
            out = out | set(rows) if sign == b"+" else out - set(rows)
        return out

    def called_twice(self) -> list[str]:
        """Return the rows that a node with at_most_once was given twice, though no call with them has raised."""
        found = []
        for number, node in enumerate(self.case.nodes):
            if node.delivery == "at_most_once":
                raised = set(whole_lines(self.case.raised(self.folder, number)))
                counts = Counter(whole_lines(self.case.counter(self.folder, number).path))
                found += [
                    f"node_{number}: row {row.decode().strip()}"
                    for row, count in counts.items()
                    if count > 1 and row not in raised
                ]
        return found

    def is_bounded(self, number: int) -> bool:
        """Return whether the settings of a node give a bound that is smaller than its source."""
        rows = bound(self.case, self.case.nodes[number])
        return rows is not None and rows < self.fates[number].rows_in

    def bounds(self) -> list[int]:
        """Return, for each node, how many rows a death can make the operator be given again, or abandon, at most."""
        found = []
        for node, fate in zip(self.case.nodes, self.fates, strict=True):
            rows = bound(self.case, node)
            found.append(fate.rows_in if rows is None else min(rows, fate.rows_in))
        return found
