"""The kinds of workloads: what is compared, and what figures come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .data import Data
from .job import Job
from .schedule import ideal_seconds

Medians = Mapping[str, Mapping[str, float]]
"""By side ("plain", "engine", …), the medians of what was measured."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much smaller than real a run is.

    Attributes:
        rows: what the rows are multiplied with.
        sleep_factor: what the seconds to sleep are multiplied with.
    """

    rows: float = 1.0
    sleep_factor: float = 1.0

    def of(self, rows: int) -> int:
        """Return the scaled number of rows."""
        return max(12, round(rows * self.rows))


@dataclass(frozen=True, slots=True)
class Run:
    """A job and the rows that it reads."""

    job: Job
    data: Data


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Rows through a pipeline, against the plain loop.

    Attributes:
        name: its name.
        about: what it is.
        goal: what it should reach.
        kind: what rows it reads.
        rows: how many.
        operators: what is done with them.
        settings: of the engine's pipeline.
        peers: whether datatrove does it, too.
        reference: operators with which the plain loop makes the rows that must come out; `operators` if empty.
        is_big: whether it runs only when it is asked for by name.
    """

    name: str
    about: str
    goal: str = ""
    kind: Any = "500b"
    rows: int = 100_000
    operators: tuple[str, ...] = ("identity",)
    settings: dict[str, Any] = field(default_factory=dict)
    reference: tuple[str, ...] = ()
    peers: bool = False
    is_big: bool = False

    def _job(self, what: Any, **more: Any) -> Job:
        has_workers = self.settings.get("executor") == "process" and what == "engine"
        given = {"operators": self.operators, "settings": self.settings, "has_workers": has_workers, **more}
        return Job(what=what, **given)

    def runs(self, scale: Scale) -> dict[str, Run]:
        """Return what is to be measured, by side."""
        data = Data(self.kind, scale.of(self.rows))
        sides = ["plain", "engine", *(["datatrove"] if self.peers else [])]
        return {side: Run(self._job(side), data) for side in sides}

    def figures(self, medians: Medians, scale: Scale) -> Figures:
        """Return what the medians say."""
        plain, engine = medians["plain"], medians["engine"]
        found = {
            "ratio": plain["work"] / engine["work"],
            "whole": plain["process"] / engine["process"],
            "synced": (plain["work"] + plain["fsync"]) / engine["work"],
        }
        if "datatrove" in medians:
            found["datatrove"] = plain["work"] / medians["datatrove"]["work"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep(Workload):
    """Rows that sleep, as calls of models do, against the ideal schedule."""

    parallel: int = 50
    reference: tuple[str, ...] = ("identity",)

    def runs(self, scale: Scale) -> dict[str, Run]:
        """Return what is to be measured, by side."""
        job = self._job("engine", settings={**self.settings, "parallel_size": self.parallel})
        return {"engine": Run(job, self._data(scale))}

    def _data(self, scale: Scale) -> Data:
        return Data(self.kind, scale.of(self.rows), scale.sleep_factor)

    def figures(self, medians: Medians, scale: Scale) -> Figures:
        """Return what the medians say: `ratio` of the ideal to the work, `window` of it to first-to-last call."""
        ideal = ideal_seconds(self._data(scale).durations(), self.parallel)
        engine = medians["engine"]
        return {"ratio": ideal / engine["work"], "window": ideal / engine["window"], "ideal": ideal}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Workload):
    """Resuming runs that were cancelled `left` rows before their end: does it matter how much is done?

    Attributes:
        done: how many rows are done, by side; two sides, of which the ratio is taken, or one.
        left: how many are not.
    """

    done: dict[str, int]
    left: int = 1000

    def runs(self, scale: Scale) -> dict[str, Run]:
        """Return what is to be measured, by side."""
        left = max(100, scale.of(self.left)) if self.left else 0  # not too few: a cancelled task ends some
        found = {}
        for side, rows in self.done.items():
            done = scale.of(rows) - left * (rows >= 1_000_000)  # a million in all: a file that others read, too
            found[side] = Run(self._job("resume", stop_at=done if left else -1), Data(self.kind, done + left))
        return found

    def figures(self, medians: Medians, scale: Scale) -> Figures:
        """Return what the medians say: in ms until the first new row, and the ratio of the two."""
        found = {f"ms_{side}": median["work"] * 1000 for side, median in medians.items()}
        found |= {f"call_ms_{side}": median["first_call"] * 1000 for side, median in medians.items()}
        if len(medians) == 2:
            small, large = medians.values()
            found["ratio"] = large["work"] / small["work"]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Workload):
    """Four times the rows against the rows."""

    def runs(self, scale: Scale) -> dict[str, Run]:
        """Return what is to be measured, by side."""
        small, large = scale.of(self.rows), 4 * scale.of(self.rows)
        return {
            "1x": Run(self._job("engine"), Data(self.kind, small)),
            "4x": Run(self._job("engine"), Data(self.kind, large)),
        }

    def figures(self, medians: Medians, scale: Scale) -> Figures:
        """Return what the medians say: the cost of four times the rows, over four times their cost."""
        small, large = medians["1x"], medians["4x"]
        return {
            "ratio": large["work"] / (4 * small["work"]),
            "peak_mb_1x": small["peak"],
            "peak_mb_4x": large["peak"],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Workload):
    """What it costs to begin.

    Attributes:
        whats: jobs, by side; of two, the first is taken off the second.
    """

    whats: dict[str, str]

    def runs(self, scale: Scale) -> dict[str, Run]:
        """Return what is to be measured, by side."""
        return {side: Run(self._job(what), Data("500b", 12)) for side, what in self.whats.items()}

    def figures(self, medians: Medians, scale: Scale) -> Figures:
        """Return what the medians say."""
        works = [median["work"] for median in medians.values()]
        return {"seconds": works[-1] - (works[0] if len(works) == 2 else 0.0)}
