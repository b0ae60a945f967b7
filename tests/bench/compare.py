"""Running what is compared in turn, A B A B, and taking the medians."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from .data import KEPT_BYTES
from .job import Job, UnsupportedError
from .kinds import Figures, Run, Scale, Workload
from .measure import Sample, Side, sample
from .rows import References
from .state import State

OLD = "@"
"""In the names of sides: what the other revision has measured, as in ``engine@HEAD~1``."""


_CHECKED = {"plain", "engine", "resume"}


@dataclass(slots=True)
class Result:
    """What came of a workload.

    Attributes:
        workload: which.
        samples: by side.
        skipped: by side, why not.
        figures: what the medians say.
    """

    workload: Workload
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)

    @property
    def medians(self) -> dict[str, dict[str, float]]:
        """By side, the medians of what was measured."""
        return {
            side: {key: median(each[key] for each in samples if key in each) for key in samples[0]}
            for side, samples in self.samples.items()
            if samples
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How to measure.

    Attributes:
        folder: where data is kept and work is done.
        repeat: samples of each side.
        scale: how much smaller than real.
        this: the engine that is measured.
        that: another revision's, by name, to compare with instead of the plain loop.
        peer: where datatrove is.
        say: is told what goes on.
    """

    folder: Path
    repeat: int = 5
    scale: Scale = field(default_factory=Scale)
    this: Side = field(default_factory=Side)
    that: tuple[str, Side] | None = None
    peer: Side = field(default_factory=Side)
    say: Callable[[str], None] = print
    _references: References = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_references", References(self.folder / "reference"))

    def measure(self, workload: Workload) -> Result:
        """Measure a workload.

        Raises:
            WrongResultError: when the sides made different rows.
            RuntimeError: when a process failed.
        """
        result = Result(workload)
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        if workload.is_big:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        inputs = []
        try:
            runs = {}
            for name, (run, side) in self._sides(workload).items():
                path = run.data.file(self.folder / "data")
                inputs.append(path)
                _read(path)
                runs[name] = _Measured(replace(run.job, input=str(path), folder=str(work / name)), side)
                result.samples[name] = []
            self._take_turns(workload, runs, result)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            for path in set(inputs):
                if path.stat().st_size > KEPT_BYTES:
                    path.unlink()
        result.samples = {side: samples for side, samples in result.samples.items() if samples}
        result.figures = self._figures(workload, result)
        return result

    def _sides(self, workload: Workload) -> Mapping[str, tuple[Run, Side]]:
        runs = workload.runs(self.scale)
        if self.that is None:
            return {name: (run, self.peer if name == "datatrove" else self.this) for name, run in runs.items()}
        label, other = self.that
        found = {}
        for name, run in runs.items():
            if run.job.what not in {"plain", "datatrove", "bare"}:
                found[name] = run, self.this
                found[f"{name}{OLD}{label}"] = run, other
        return found

    def _take_turns(self, workload: Workload, runs: Mapping[str, _Measured], result: Result) -> None:
        operators = workload.reference or workload.operators
        for job in (measured.job for measured in runs.values()):
            if job.what in _CHECKED:  # before there are results: one of the two takes room at a time
                self._references.expected(Path(job.input), operators)
        for turn in range(self.repeat):
            for name, measured in runs.items():
                if name in result.skipped:
                    continue
                try:
                    measured.get_ready()
                    result.samples[name].append(sample(measured.job, measured.side))
                except UnsupportedError as error:
                    result.skipped[name] = str(error)
                    self.say(f"  {name}: skipped, {error}")
                    continue
                job = measured.job
                if not turn and job.what in _CHECKED:
                    self._references.check(job.output, Path(job.input), operators)
                if job.what != "resume":
                    shutil.rmtree(job.folder)

    def _figures(self, workload: Workload, result: Result) -> Figures:
        medians = result.medians
        if self.that is None:
            return workload.figures(medians, self.scale) if not _missing(workload, medians, self.scale) else {}
        found = {}
        for name, values in medians.items():
            before = medians.get(f"{name}{OLD}{self.that[0]}")
            if before is not None:
                found[f"ratio_{name}"] = before["work"] / values["work"]
        if len(found) == 1:
            return {"ratio": found.popitem()[1]}
        return found


class _Measured:
    """A job that is done again and again."""

    def __init__(self, job: Job, side: Side) -> None:
        self.job = job
        self.side = side
        self._state: State | None = None

    def get_ready(self) -> None:
        """Make the folder what it must be before the job."""
        folder = Path(self.job.folder)
        if self._state is not None:
            self._state.restore()
            return
        folder.mkdir(parents=True)
        if self.job.what == "resume":
            sample(replace(self.job, what="begin"), self.side)
            self._state = State(folder, folder.with_name(f"{folder.name}.kept"), self.job.output)


def _missing(workload: Workload, medians: Mapping[str, object], scale: Scale) -> bool:
    return any(name not in medians for name in workload.runs(scale) if name != "datatrove")


def _read(path: Path) -> None:
    """Have the operating system hold the file in memory, as it does for the second one who reads it."""
    with path.open("rb") as file:
        while file.read(1 << 22):
            pass
