"""What the torture did, and what it found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Tally:
    """Counts; they can be added, and travel as JSON.

    Attributes:
        kills: processes killed.
        exporting: those of them that were within an export.
        cuts: losses of power.
        fills: disks that were full.
        ends: runs that ended early in order: cancelled by SIGTERM, or failed by an operator.
        replays: replays of dead letters that were brought to their end, or killed.
        runs: runs that were brought to their end and compared.
        dead_letters: dead letters that were compared.
        again: rows that operators with exactly_once were given again.
        abandoned: rows that nodes with at_most_once gave up.
        refused: resumes that were refused.
        beyond: deaths that made a node repeat, or give up, more than the bound.
        twice: rows that a node with at_most_once was given twice.
        ratio: the largest share of its bound that a death made one node repeat or give up.
        worst: where that was.
        peak: the most rows that a death made one node repeat or give up, and the bound there.
        findings: what was wrong, each with what is needed to do it again.
    """

    kills: int = 0
    exporting: int = 0
    cuts: int = 0
    fills: int = 0
    ends: int = 0
    replays: int = 0
    runs: int = 0
    dead_letters: int = 0
    again: int = 0
    abandoned: int = 0
    refused: int = 0
    beyond: int = 0
    twice: int = 0
    ratio: float = 0.0
    worst: str = ""
    peak: tuple[int, int] = (0, 0)
    findings: list[str] = field(default_factory=list)

    @property
    def accidents(self) -> int:
        """Kills, losses of power and full disks."""
        return self.kills + self.cuts + self.fills

    def __str__(self) -> str:
        text = (
            f"{self.kills} kills ({self.exporting} within an export), {self.cuts} power cuts, {self.fills} full disks, "
            f"{self.ends} early ends, "
            f"{self.refused} refusals, {self.replays} replays, {self.runs} runs compared, "
            f"{self.dead_letters} dead letters"
        )
        if self.again or self.abandoned:
            text += (
                f"; {self.again} rows given to operators again and {self.abandoned} abandoned, in one death at most "
                f"{self.ratio:.0%} of the bound ({self.worst})"
            )
        return text

    def take(self, rows: int, bound: int, where: str) -> None:
        """Take note of what a death made a node repeat or give up."""
        if rows / max(1, bound) > self.ratio:
            self.ratio, self.worst = rows / max(1, bound), f"{rows} of {bound} rows, {where}"
        self.peak = max(self.peak, (rows, bound))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def add(self, other: Tally | dict[str, Any]) -> None:
        """Add what another one found."""
        values = asdict(other) if isinstance(other, Tally) else other
        ratio = values["ratio"]
        if ratio > self.ratio:
            self.ratio, self.worst = ratio, values["worst"]
        self.peak = max(self.peak, (values["peak"][0], values["peak"][1]))
        for name, value in values.items():
            if name not in {"ratio", "worst", "peak"}:
                setattr(self, name, getattr(self, name) + value)
