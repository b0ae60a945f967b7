"""The torture itself: kill, look, resume, until done; then compare."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llm_datagen.testing import Fault

from .cases import random_case
from .forks import Death
from .lab import Lab

KILLS_A_ROUND = 4
"""Kills of one run, before it is let run to its end."""


EXHAUSTIVE_ROWS = 8
"""Rows of the input when every failpoint is tried: they have some hundred steps of the disk."""


@dataclass(slots=True)
class Tally:
    """What the torture did, and what it found.

    Attributes:
        kills: processes killed.
        ends: runs that ended early in order: cancelled by SIGTERM, or failed by an operator.
        refused: resumes that were refused.
        runs: runs that were brought to their end and compared.
        again: rows that operators were given again.
        ratio: the largest share of its bound that a kill made one node repeat.
        worst: where that was.
        findings: what was wrong, each with what is needed to do it again.
    """

    kills: int = 0
    ends: int = 0
    refused: int = 0
    runs: int = 0
    again: int = 0
    ratio: float = 0.0
    worst: str = ""
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{self.kills} kills, {self.ends} early ends, {self.refused} refusals, {self.runs} runs compared"
        if self.again:
            text += (
                f"; {self.again} rows given to operators again, in one kill at most {self.ratio:.0%} of the bound "
                f"({self.worst})"
            )
        return text

    def add(self, other: Tally) -> None:
        """Add what another one found."""
        self.kills += other.kills
        self.ends += other.ends
        self.refused += other.refused
        self.runs += other.runs
        self.again += other.again
        self.findings += other.findings
        if other.ratio > self.ratio:
            self.ratio, self.worst = other.ratio, other.worst


class Torture:
    """Tortures one case.

    Args:
        seed: the seed of the case, and of the kills.
        folder: where.
        tally: where the results go.
        rows: rows of the input; None leaves it to the seed.
        processes: whether its operators run in worker processes.
    """

    def __init__(
        self, seed: int, folder: Path, tally: Tally, *, rows: int | None = None, processes: bool = False
    ) -> None:
        case = random_case(seed, rows=rows)
        self.case = case.in_processes() if processes else case
        self.tally = tally
        self.lab = Lab(self.case, folder)
        self.dice = random.Random(f"kills {seed}")
        self._before = [0] * len(self.case.nodes)
        self._how: list[str] = []

    def reset(self) -> None:
        """Start the case anew."""
        self.lab.reset()
        self._before = [0] * len(self.case.nodes)
        self._how = []

    def baseline(self) -> float:
        """Run it without a kill; return how long that takes."""
        death = self.lab.go()
        self._how.append("not killed")
        self._judge(death)
        return death.seconds

    def at_times(self, kills: int, seconds: float, until: float) -> None:
        """Kill at random times of a run that takes `seconds`, `kills` times in all; not after the time `until`."""
        done = 0
        while done < kills and time.monotonic() < until and not self.tally.findings:
            self.reset()
            for _ in range(KILLS_A_ROUND):
                death = self._blow(seconds)
                if death.how == "done":
                    break
                done += death.how == "killed"
            self._finish()

    def _blow(self, seconds: float) -> Death:
        """Kill a run at a random time, or have it end early in order: by SIGTERM, or by an operator that raises."""
        kind = self.dice.random()
        if kind < 0.15:
            node = self.dice.randrange(len(self.case.nodes))
            call = self.dice.randint(1, max(1, self.case.rows // 2))
            death = self.lab.go(fail=(node, call))
            self._how.append(f"{death.how} at call {call} of node_{node}")
        else:
            slow = self._slow_step() if self.dice.random() < 0.35 else None
            after = self.dice.random() * seconds * (1.05 if slow is None else 3.0)
            number = signal.SIGTERM if kind < 0.35 else signal.SIGKILL
            death = self.lab.go(kill_after=after, kill_with=number, plan=slow)
            self._how.append(f"{death.how} by {number.name} after {after * 1000:.1f} ms, slow: {slow}")
        self._weigh(death)
        return death

    def _slow_step(self) -> Fault:
        """Return a disk that is slow at some step: it makes the moment before that step longer, and easier to hit."""
        operation, path = self.dice.choice(
            (
                ("write", "*.commits"),
                ("write", "*/node_?.*.commits"),
                ("write", "*/node_?.*"),
                ("write", "*/out.*"),
                ("rename", "*.commits"),
                ("rename", "*.done"),
                ("remove", "*"),
                ("rename", "*/runtime.json"),
                ("read", "*"),
            )
        )
        seconds = self.dice.choice((0.002, 0.01, 0.02))
        return Fault(operation=operation, path=path, action="delay", seconds=seconds, times=None)  # type: ignore[arg-type]

    def at_failpoints(self, choose: Callable[[list[tuple[str, str]]], Iterator[Fault]], until: float) -> None:
        """Kill at failpoints of a whole run, then at some of the resume.

        Args:
            choose: from the failpoints of a run to the faults to try, each in a run of its own.
            until: the time after which no more is begun.
        """
        self.reset()
        death, points = self.lab.record()
        self._how.append("recorded")
        self._judge(death)
        faults = list(choose(points))
        half = self.lab.folder.with_name(f"{self.lab.folder.name}.half")
        snapshot = False
        for fault in faults:
            if time.monotonic() > until or self.tally.findings:
                break
            self.reset()
            self._strike(fault)
            self._finish()
        # And the recovery of a run that was killed about half-way.
        self.reset()
        for _ in range(5):
            death = self.lab.go(plan=Fault(hit=max(1, len(points) * 2 // 3)))
            if death.how == "killed":
                snapshot = True
                break
            self.reset()
        if not snapshot:
            return
        self.lab.save_as(half)
        base = self.lab.uncommitted()
        death, points = self.lab.record()
        self._how = ["killed at 2/3 of the failpoints", "recorded"]
        self._before = base
        self._judge(death)
        for fault in choose(points):
            if time.monotonic() > until or self.tally.findings:
                break
            self.lab.restore(half)
            self._before, self._how = list(base), ["killed at 2/3 of the failpoints"]
            self._strike(fault)
            self._finish()
        shutil.rmtree(half, ignore_errors=True)

    def _strike(self, fault: Fault) -> None:
        death = self.lab.go(plan=fault)
        self._how.append(f"{death.how} by {fault}")
        self._weigh(death)

    def _weigh(self, death: Death) -> None:
        """Take note of a death, and compare what it makes the operators repeat with what it may."""
        if death.how in {"error", "hang"}:
            self._note(f"{death.how}: {death.text}")
            return
        self.tally.kills += death.how == "killed"
        self.tally.ends += death.how in {"canceled", "failed"}
        now = self.lab.uncommitted()
        for number, (before, after, kill_bound) in enumerate(zip(self._before, now, self.lab.bounds(), strict=True)):
            again = after - before
            # After an end in order everything that an operator was given is saved, but for the call that raised; and
            # for what an ordered node has made of rows behind one that was not done, which cannot leave without it.
            node = self.case.nodes[number]
            bound = kill_bound
            if death.how != "killed" and not node.ordered:
                bound = node.batch_size if death.how == "failed" else 0
            self.tally.again += max(0, again)
            if again < 0:
                self._note(f"node_{number}: {-again} rows are covered that its operator was never given")
            if again > bound:
                self._note(f"node_{number}: {again} rows are to be done again, and the bound is {bound}")
            if death.how == "killed" and again / max(1, bound) > self.tally.ratio and bound < self.case.rows:
                self.tally.ratio = again / bound
                self.tally.worst = f"{again} of {bound} rows, node_{number} of {self.case}"
        self._before = now

    def _finish(self) -> None:
        death = self.lab.go()
        self._how.append("run to its end")
        self._judge(death)

    def _judge(self, death: Death) -> None:
        self.tally.runs += 1
        if death.how != "done":
            self._note(f"{death.how}: {death.text}")
            return
        for problem in self.lab.problems():
            self._note(problem)
        again = self.lab.uncommitted()
        if again != self._before:
            self._note(f"operators were given {again} rows more than there are, {self._before} of them before the kill")

    def _note(self, what: str) -> None:
        self.tally.findings.append(f"{what}\n    in {self.case}\n    {'; '.join(self._how)}")


def some_of_each(dice: random.Random, most: int) -> Callable[[list[tuple[str, str]]], Iterator[Fault]]:
    """Return a choice of `most` faults that takes each kind of failpoint in turn, at a random hit of it."""

    def choose(points: list[tuple[str, str]]) -> Iterator[Fault]:
        kinds: dict[tuple[str, str], list[int]] = {}
        for number, (operation, path) in enumerate(points, 1):
            kinds.setdefault((operation, Path(path).name), []).append(number)
        order = list(kinds)
        dice.shuffle(order)
        for number in range(most):
            kind = order[number % len(order)]
            yield _fault(dice, kind[0], dice.choice(kinds[kind]), dice.random() < 0.5)

    return choose


def every(dice: random.Random) -> Callable[[list[tuple[str, str]]], Iterator[Fault]]:
    """Return the choice of all failpoints, before and after each; of writes, also torn."""

    def choose(points: list[tuple[str, str]]) -> Iterator[Fault]:
        for number, (operation, _) in enumerate(points, 1):
            yield Fault(hit=number, when="before")
            yield Fault(hit=number, when="after")
            if operation == "write":
                yield _fault(dice, operation, number, True)

    return choose


def _fault(dice: random.Random, operation: str, hit: int, late: bool) -> Fault:
    if operation == "write" and dice.random() < 0.6:
        return Fault(hit=hit, action="tear", keep=dice.choice((0, 1, 2, 9, 40, 200)))
    return Fault(hit=hit, when="after" if late else "before")


def torture(
    seed: int, kills: int, folder: Path, *, exhaustive: bool = False, seconds: float = 1e9, processes: bool = False
) -> Tally:
    """Torture the case of a seed with about `kills` kills.

    Args:
        seed: the seed.
        kills: how many; with `exhaustive`, only those at random times are counted.
        folder: where.
        exhaustive: whether to kill at every failpoint, not at some.
        seconds: after which no further run is begun.
        processes: whether its operators run in worker processes.
    """
    tally = Tally()
    until = time.monotonic() + seconds
    work = Torture(seed, folder, tally, rows=EXHAUSTIVE_ROWS if exhaustive else None, processes=processes)
    length = work.baseline()
    if not tally.findings:
        work.at_times(max(1, kills // 2), length, until)
    if not tally.findings:
        dice = random.Random(f"failpoints {seed}")
        work.at_failpoints(every(dice) if exhaustive else some_of_each(dice, max(1, kills // 4)), until)
    if not tally.findings:  # what is left is for looking at
        shutil.rmtree(folder, ignore_errors=True)
        work.lab.scratch.unlink(missing_ok=True)
        folder.with_name(f"{folder.name}.points").unlink(missing_ok=True)
    return tally
