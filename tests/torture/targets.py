"""Random pipelines with a target, killed: the output has exactly so many rows, and none that there should not be."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from llm_datagen.runs import RunFolder

from .cases import PIPELINE_ID, Case
from .choices import slow_step
from .draws import random_case
from .files import key_of, rows_in, unpacked
from .forks import Death, fork
from .lab import Lab
from .tally import Tally

KILLS_A_CASE = 6


def targets(folder: Path, *, seed: int, kills: int) -> Tally:
    """Kill runs with targets, one random case after the other, until there were so many kills."""
    tally = Tally()
    while tally.kills < kills and not tally.findings:
        _TargetTorture(seed, folder / f"seed-{seed}", tally).run()
        seed += 1
    return tally


def case_of(seed: int) -> Case:
    """Return a case with a target, at times with more rows than there are."""
    case = random_case(seed, delivery="exactly_once")
    dice = random.Random(f"target {seed}")
    return replace(case, target=dice.choice((1, dice.randint(1, 20), dice.randint(1, 20), dice.randint(1, 300))))


class _TargetTorture:
    """Tortures a case, then raises its target, and goes on."""

    def __init__(self, seed: int, folder: Path, tally: Tally) -> None:
        self.case = case_of(seed)
        self.lab = Lab(self.case, folder)
        self.tally = tally
        self.dice = random.Random(f"kills {seed}")
        self.how: list[str] = []

    def run(self) -> None:
        """Do it; what fails is left there."""
        death = self.lab.go()
        self._judge(death, self.case.target)
        seconds = death.seconds
        self.lab.reset()
        for _ in range(self.dice.randint(1, KILLS_A_CASE)):
            self._blow(seconds)
        self._judge(self.lab.go(), self.case.target)
        self._judge(self.lab.go(), self.case.target, is_again=True)
        raised = self.case.target + self.dice.randint(1, 40)
        for _ in range(self.dice.randint(0, 2)):
            death = self._raise(raised, kill_after=self.dice.random() * seconds)
            self.tally.kills += death.how == "killed"
            self.how.append(f"raised to {raised}, and {death.how}")
        self._judge(self._raise(raised), raised)
        if not self.tally.findings:
            self.lab.clean()

    def _blow(self, seconds: float) -> None:
        slow = slow_step(self.dice) if self.dice.random() < 0.35 else None
        after = self.dice.random() * seconds * (1.05 if slow is None else 3.0)
        number = signal.SIGTERM if self.dice.random() < 0.2 else signal.SIGKILL
        death = self.lab.go(kill_after=after, kill_with=number, plan=slow)
        self.how.append(f"{death.how} by {number.name} after {after * 1000:.1f} ms, slow: {slow}")
        self.tally.kills += death.how == "killed"
        self.tally.ends += death.how == "canceled"
        if death.how in {"error", "hang", "refused"}:
            self._note(f"{death.how}: {death.text}")
        for what in self.lab.found_by_verify():
            self._note(f"after it was {death.how}: verify: {what}")

    def _raise(self, target: int, kill_after: float | None = None) -> Death:
        def work() -> None:
            pipeline = self.case.pipeline(self.lab.folder).resume(PIPELINE_ID, target=target)
            assert pipeline.run().status == "completed"

        return fork(work, self.lab.scratch, kill_after=kill_after)

    def _judge(self, death: Death, target: int, *, is_again: bool = False) -> None:
        self.tally.runs += 1
        if self.tally.findings:
            return
        if death.how != "done":
            self._note(f"{death.how}: {death.text}")
            return
        before = self._contents() if is_again else None
        for what in self._problems(target):
            self._note(what)
        if before is not None and self._contents() != before:
            self._note("a completed run was changed by a resume")

    def _contents(self) -> dict[str, bytes]:
        out = self.case.output_path(self.lab.folder)
        return {path.name: path.read_bytes() for path in out.parent.glob(f"{out.name}*")}

    def _problems(self, target: int) -> Iterator[str]:
        path, every = self.case.output_path(self.lab.folder), self.lab.fates[-1].rows
        run_state = RunFolder(self.lab.folder / "results", PIPELINE_ID).load()
        cut = run_state["nodes"][-1]["cut_rows"]
        rows = rows_in(path, unpacked(path))
        is_lost = target > self.case.target and bool(cut)  # what was cut off does not come back
        if len(rows) != min(target, len(every)) and not (is_lost and len(every) - cut <= len(rows) < target):
            yield f"{len(rows)} rows, and the target is {target} of {len(every)}"
        there, wanted = (Counter(key_of(*row) for row in some) for some in (rows, every))
        if there - wanted:
            yield f"{(there - wanted).total()} rows repeated or foreign, such as {next(iter(there - wanted))[:100]}"
        if self.case.is_ordered and not is_lost and rows != every[: len(rows)]:
            yield "the rows are not the first ones"
        if not Path(f"{path}.done").exists() or run_state["status"] != "completed":
            yield f"the run is {run_state['status']}, and its output sealed: {Path(f'{path}.done').exists()}"
        if any(entry["status"] not in {"completed", "unneeded"} for entry in run_state["nodes"]):
            yield f"nodes are {[entry['status'] for entry in run_state['nodes']]}"
        yield from self.lab.found_by_verify()

    def _note(self, what: str) -> None:
        self.tally.findings.append(f"{what}\n    in {self.case}\n    {'; '.join(self.how)}")
