"""What a death has cost, and whether a run that has ended is right."""

from __future__ import annotations

from . import exports
from .bounds import calls_at_once, task_rows
from .cases import Case
from .forks import Death
from .lab import Lab
from .tally import Tally


class Judge:
    """Judges what happens to a case.

    Args:
        case: the case.
        lab: where it is.
        tally: where the results go.
    """

    def __init__(self, case: Case, lab: Lab, tally: Tally) -> None:
        self.case = case
        self.lab = lab
        self.tally = tally
        self.before = [0] * len(case.nodes)
        """For each node, what `Lab.uncommitted` said after the last death."""
        self.how: list[str] = []
        """What was done to the run so far."""

    def reset(self) -> None:
        """Start the case anew."""
        self.lab.reset()
        self.before = [0] * len(self.case.nodes)
        self.how = []

    def weigh(self, death: Death, *, was_saved: bool = True) -> None:
        """Take note of a death, and compare what it makes the operators repeat with what it may.

        Args:
            death: the death.
            was_saved: whether what was in flight was saved when the run ended in order.
        """
        if death.how in {"error", "hang", "refused"}:
            self.note(f"{death.how}: {death.text}")
            return
        self.tally.kills += death.how == "killed"
        self.tally.exporting += death.how == "killed" and exports.is_under_way(self.lab.folder)
        for what in self.lab.found_by_verify():
            self.note(f"after it was {death.how}: verify: {what}")
        self.tally.ends += was_saved and death.how in {"canceled", "failed"}
        bounds = self.lab.bounds()
        if death.how != "killed" and was_saved:
            bounds = [self._bound_in_order(n, death.how, most) for n, most in enumerate(bounds)]
        self.compare(self.lab.uncommitted(), bounds)

    def _bound_in_order(self, number: int, how: str, most: int) -> int:
        """Return how many rows a node may repeat, or give up, after an end in order.

        Everything that an operator was given is saved, but for calls that raised; and for what an ordered node has
        made of rows behind one that was not done, which cannot leave without it.
        """
        node = self.case.nodes[number]
        if node.ordered:
            return most
        if node.delivery == "at_most_once":
            return 0
        if node.fails:
            return calls_at_once(node) * task_rows(self.case, node)
        return node.batch_size if how == "failed" else 0

    def compare(self, now: list[int], bounds: list[int], *, is_strict: bool = True) -> None:
        for number, (before, after, most) in enumerate(zip(self.before, now, bounds, strict=True)):
            rows, node = after - before, self.case.nodes[number]
            gives_up = node.delivery == "at_most_once"
            if gives_up:
                self.tally.abandoned += max(0, rows)
            else:
                self.tally.again += max(0, rows)
            if rows < 0 and is_strict:
                self.note(f"node_{number}: {-rows} rows are {'not abandoned any more' if gives_up else 'never given'}")
            if rows > most:
                self.tally.beyond += 1
                if is_strict:
                    what = "given up" if gives_up else "to be done again"
                    self.note(f"node_{number}: {rows} rows are {what}, and the bound is {most}")
            elif most and self.lab.is_bounded(number):
                self.tally.take(rows, most, f"node_{number} of {self.case}")
        self.before = now

    def finish(self) -> None:
        if self.tally.findings:
            return
        death = self.lab.go()
        self.how.append("run to its end")
        self.judge(death)

    def judge(self, death: Death, *, mended: bool = False, is_strict: bool = True) -> None:
        """Compare what a run has left that should have ended.

        Args:
            death: how it ended.
            mended: whether it was a replay; what the operators were given then is not compared.
            is_strict: whether rows may be called, or given up, within the bound only.
        """
        self.tally.runs += 1
        if death.how != "done":
            self.note(f"{death.how}: {death.text}")
            return
        for problem in self.lab.problems(mended=mended):
            self.note(problem)
        if self.tally.findings:
            return
        self.tally.dead_letters += sum(len(self.lab.dead_letters(number)) for number in range(len(self.case.nodes)))
        if mended:
            return
        twice = self.lab.called_twice()
        self.tally.twice += len(twice)
        again = self.lab.uncommitted()
        if is_strict and twice:
            self.note(f"{len(twice)} rows were given to an operator twice, such as {twice[0]}")
        if is_strict and again != self.before:
            self.note(f"rows given again, or up: {again}, {self.before} of them before the kill")

    def note(self, what: str) -> None:
        self.tally.findings.append(f"{what}\n    in {self.case}\n    {'; '.join(self.how)}")
