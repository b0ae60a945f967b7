"""The torture itself: kill, cut the power, fill the disk, look, resume, until done; then compare."""

from __future__ import annotations

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from llm_datagen import StreamError
from llm_datagen.testing import Fault

from .choices import Choice, every, full_disk, slow_step, some_of_each
from .draws import random_case
from .forks import Death
from .judge import Judge
from .lab import Lab
from .medium import choose_cut, cut, files_of
from .model import fates
from .power import Event, read_journal
from .tally import Tally

KILLS_A_ROUND = 4
"""Kills of one run, before it is let run to its end."""

CUTS_A_ROUND = 2
"""Losses of power in one run."""

EXHAUSTIVE_ROWS = 8
"""Rows of the input when every failpoint is tried: they have some hundred steps of the disk."""


class Torture(Judge):
    """Tortures one case.

    Args:
        seed: the seed of the case, and of what happens to it.
        folder: where.
        tally: where the results go.
        until: the time after which nothing more is begun.
        rows: rows of the input; None leaves it to the seed.
        fixed: settings that are not left to the seed (`random_case`).
    """

    def __init__(
        self, seed: int, folder: Path, tally: Tally, *, until: float, rows: int | None = None, **fixed: Any
    ) -> None:
        case = random_case(seed, rows=rows, **fixed)
        super().__init__(case, Lab(case, folder), tally)
        self.until = until
        self.dice = random.Random(f"kills {seed}")
        self.seconds = 0.0

    def _may_go_on(self) -> bool:
        return time.monotonic() < self.until and not self.tally.findings

    def baseline(self) -> None:
        """Run it in peace, and take the time."""
        death = self.lab.go()
        self.seconds = death.seconds
        self.how.append("not killed")
        self.judge(death)

    # The death of the process.

    def at_times(self, kills: int) -> None:
        """Kill at random times, `kills` times in all; end some runs in order; replay the dead letters of some."""
        done = 0
        while done < kills and self._may_go_on():
            self.reset()
            for _ in range(KILLS_A_ROUND):
                death = self._blow()
                if death.how == "done":
                    break
                done += death.how == "killed"
            is_replayed = self.case.can_be_replayed and self.dice.random() < 0.4
            if not is_replayed or self.dice.random() < 0.5:  # a replay may come to the help of a run that was killed
                self.finish()
            if is_replayed and self._may_go_on():
                self._replay()

    def _blow(self) -> Death:
        """Kill a run at a random time, or have it end early in order: by SIGTERM, or by an operator that raises."""
        kind = self.dice.random()
        failing = [number for number, node in enumerate(self.case.nodes) if node.on_error == "fail"]
        if kind < 0.15 and failing:
            node = self.dice.choice(failing)
            call = self.dice.randint(1, max(1, self.case.rows // 2))
            death = self.lab.go(fail=(node, call))
            self.how.append(f"{death.how} at call {call} of node_{node}")
        else:
            slow = slow_step(self.dice) if self.dice.random() < 0.35 else None
            after = self.dice.random() * self.seconds * (1.05 if slow is None else 3.0)
            number = signal.SIGTERM if 0.15 <= kind < 0.35 else signal.SIGKILL
            death = self.lab.go(kill_after=after, kill_with=number, plan=slow)
            self.how.append(f"{death.how} by {number.name} after {after * 1000:.1f} ms, slow: {slow}")
        self.weigh(death)
        return death

    def _replay(self) -> None:
        """Mend the operators, and have the dead letters done again, with kills meanwhile."""
        for _ in range(self.dice.randint(0, 2)):
            after = self.dice.random() * self.seconds
            death = self.lab.go(replay=True, kill_after=after)
            self.tally.kills += death.how == "killed"
            self.tally.replays += 1
            self.how.append(f"replay {death.how} after {after * 1000:.1f} ms")
            if death.how not in {"killed", "done"}:
                self.note(f"{death.how}: {death.text}")
                return
        death = self.lab.go(replay=True)
        self.tally.replays += 1
        self.how.append("replay to its end")
        self.judge(death, mended=True)

    def at_failpoints(self, choose: Choice) -> None:
        """Kill at failpoints of a whole run, then at some of the resume."""
        points = self._points()
        if not self._may_go_on():
            return
        half = self.lab.folder.with_name(f"{self.lab.folder.name}.half")
        for fault in choose(points):
            if not self._may_go_on():
                return
            self.reset()
            self._strike(fault)
            self.finish()
        # And the recovery of a run that was killed about half-way.
        for _ in range(5):
            self.reset()
            death = self.lab.go(plan=Fault(hit=max(1, len(points) * 2 // 3)))
            if death.how == "killed":
                break
        else:
            return
        self.lab.save_as(half)
        self.before = base = self.lab.uncommitted()
        self.how = ["killed at 2/3 of the failpoints", "recorded"]
        death, points = self.lab.record()
        self.judge(death)
        for fault in choose(points):
            if not self._may_go_on():
                break
            self.lab.restore(half)
            self.before, self.how = list(base), ["killed at 2/3 of the failpoints"]
            self._strike(fault)
            self.finish()
        shutil.rmtree(half, ignore_errors=True)

    def _points(self) -> list[tuple[str, str]]:
        """Return the failpoints of a run."""
        self.reset()
        death, points = self.lab.record()
        self.how.append("recorded")
        self.judge(death)
        return points

    def _strike(self, fault: Fault) -> None:
        death = self.lab.go(plan=fault)
        self.how.append(f"{death.how} by {fault}")
        self.weigh(death)

    # A full disk.

    def at_full_disks(self, times: int) -> None:
        """Let the disk be full from some write on; then there is room again."""
        points = self._points()
        for _ in range(times):
            if not self._may_go_on():
                return
            self.reset()
            fault = full_disk(self.dice, points)
            death = self.lab.go(plan=fault)
            self.how.append(f"{death.how} by {fault}")
            self.tally.fills += death.how == "failed"
            self.weigh(death, was_saved=False)
            self.finish()

    # A loss of power.

    def at_cuts(self, cuts: int) -> None:
        """Cut the power at random steps of the disk."""
        for first in range(0, cuts, CUTS_A_ROUND):
            self.reset()
            for _ in range(min(CUTS_A_ROUND, cuts - first)):
                if not self._may_go_on():
                    return
                if not self._cut():
                    break
            else:
                self._finish_after_cuts()

    def _cut(self) -> bool:
        """Cut the power of a run; return whether it makes sense to go on with what is left."""
        before = files_of(self.lab.folder)
        events: list[Event] = []
        if self.dice.random() < 0.3:  # what a process before this one has not synced is lost as well
            early = self.dice.random() * self.seconds
            death = self.lab.go(kill_after=early, kill_with=signal.SIGTERM, journal=True)
            self.how.append(f"{death.how} by SIGTERM")
            if death.how in {"canceled", "done"}:
                events += read_journal(self.lab.journal)
            elif death.how == "killed":  # within a step, so the journal may say more than was done
                before = files_of(self.lab.folder)
            else:
                return self._may_be_refused(death)
        after = self.dice.random() * self.seconds * 1.2 if self.dice.random() < 0.5 else None
        death = self.lab.go(kill_after=after, journal=True)
        if death.how not in {"killed", "done"}:
            return self._may_be_refused(death)
        events += read_journal(self.lab.journal)
        at = choose_cut(events, self.dice)
        self.how.append(cut(self.lab.folder, before, events, at, self.dice))
        self.tally.cuts += 1
        if self.case.fsync != "never":
            self._check_finished(is_all=death.how == "done" and at == len(events))
        try:
            now = self.lab.uncommitted()
        except (OSError, ValueError, StreamError):  # the resume says what it thinks of it
            return True
        self.compare(now, self.lab.bounds(), is_strict=self.case.fsync == "flush")
        return True

    def _check_finished(self, *, is_all: bool) -> None:
        """Make sure that finished streams have survived the loss of power, with their dead letters."""
        finished = self.lab.finished()
        if is_all and len(finished) < len(self.case.nodes):
            self.note(f"the run had ended, and only the nodes {finished} are still finished")
        lost = [{row[0] for row in self.lab.dead_letters(n) if row[1] == "Abandoned"} for n in finished]
        wanted = fates(self.case, [*lost, *[set()] * len(self.case.nodes)])
        for number in finished:
            for problem in self.lab.node_problems(number, wanted[number]):
                self.note(f"after a loss of power, of a finished node: {problem}")

    def _may_be_refused(self, death: Death) -> bool:
        """Take note of a resume after a loss of power that did not come to its end."""
        if death.how != "refused" or self.case.fsync == "flush":
            self.note(f"{death.how}: {death.text}")
        else:
            self.tally.refused += 1
        return False

    def _finish_after_cuts(self) -> None:
        death = self.lab.go()
        self.how.append("run to its end")
        if death.how != "done":
            self._may_be_refused(death)
            return
        self.judge(death, is_strict=self.case.fsync == "flush")


def torture(
    seed: int,
    kills: int,
    folder: Path,
    *,
    exhaustive: bool = False,
    seconds: float = 1e9,
    accident: str = "",
    **fixed: Any,
) -> Tally:
    """Torture the case of a seed.

    Args:
        seed: the seed.
        kills: about how many kills; half as many losses of power and a fifth as many full disks come to that.
        folder: where.
        exhaustive: kill at every failpoint, not at some; and nothing else.
        seconds: after which nothing more is begun.
        accident: "kill", "power" or "full": only that, `kills` times.
        fixed: settings that are not left to the seed (`random_case`).
    """
    tally = Tally()
    rows = EXHAUSTIVE_ROWS if exhaustive else None
    work = Torture(seed, folder, tally, until=time.monotonic() + seconds, rows=rows, **fixed)
    work.baseline()
    dice = random.Random(f"failpoints {seed}")
    if accident in {"", "kill"}:
        work.at_times(max(1, kills // 2))
        work.at_failpoints(every(dice) if exhaustive else some_of_each(dice, max(1, kills // 4)))
    if accident in {"", "power"} and not exhaustive:
        work.at_cuts(kills if accident else max(1, kills // 2))
    if accident in {"", "full"} and not exhaustive:
        work.at_full_disks(kills if accident else max(1, kills // 5))
    if not tally.findings:  # what is left is for looking at
        work.lab.clean()
    return tally
