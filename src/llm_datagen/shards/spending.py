"""What a run has spent of its budget, by its account: `files/budget.jsonl` and job logs, also those of its shards.

Everything that shows a budget asks here. What the nodes of a run state say they used is less: what was paid for when a
process was killed is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llm_datagen.errors import DatagenError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import stamp_of
from llm_datagen.runs.usage import PICO, dollars, lost_in_words
from llm_datagen.runs.words import number

_FILE = "budget.jsonl"
_KNOWN = 256


@dataclass(frozen=True, slots=True)
class Spent:
    """US dollars and tokens.

    Attributes:
        usd: US dollars.
        tokens: tokens.
    """

    usd: float = 0.0
    tokens: int = 0

    def plus(self, other: Spent) -> Spent:
        """Return both together."""
        return Spent(round(self.usd + other.usd, 12), self.tokens + other.tokens)

    def minus(self, other: Spent) -> Spent:
        """Return what is left of it."""
        return Spent(round(self.usd - other.usd, 12), self.tokens - other.tokens)

    def __bool__(self) -> bool:
        return bool(self.usd or self.tokens)

    def __str__(self) -> str:
        """Return it for people, such as ``$1.20 and 3,400 tokens``."""
        money = f"{dollars(self.usd)} and " if self.usd else ""
        return f"{money}{number(self.tokens)} tokens"


@dataclass(frozen=True, slots=True)
class RunSpending:
    """What a run with a budget has spent.

    Attributes:
        spent: in all, without what is in flight.
        lost: the part of it of which nobody knows whether it was that much: the answers never came, or do not say.
        in_flight: the most that calls can cost which are in flight, or were when the process died.
        untold: the part of `lost` that went to calls whose answer came.
        problem: why the account cannot be read; empty when it can.
    """

    spent: Spent = Spent()
    lost: Spent = Spent()
    in_flight: Spent = Spent()
    untold: Spent = Spent()
    problem: str = ""

    def plus(self, other: RunSpending) -> RunSpending:
        """Return both together."""
        return RunSpending(
            self.spent.plus(other.spent),
            self.lost.plus(other.lost),
            self.in_flight.plus(other.in_flight),
            self.untold.plus(other.untold),
            self.problem or other.problem,
        )

    def __str__(self) -> str:
        """Return it in a sentence."""
        if self.problem:
            return self.problem
        parts = [f"{self.spent} spent"]
        parts += lost_in_words(self.lost.minus(self.untold), self.untold)
        if self.in_flight:
            parts.append(f"up to {self.in_flight} for calls in flight")
        return ", ".join(parts)

    @property
    def amounts(self) -> dict[str, Spent]:
        """The amounts by their names."""
        return {"spent": self.spent, "lost": self.lost, "in_flight": self.in_flight, "untold": self.untold}

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, with the US dollars under the names of the attributes."""
        money = {name: each.usd for name, each in self.amounts.items()}
        tokens = {f"{name}_tokens": each.tokens for name, each in self.amounts.items()}
        return {**money, **tokens, "problem": self.problem}


def spending_of(folders: Iterable[RunFolder]) -> RunSpending | None:
    """Return what the runs in some folders have spent: a run's own, or those of its shards. None without an account."""
    found: RunSpending | None = None
    for folder in folders:
        each = _of(folder)
        if each is not None:
            found = each if found is None else found.plus(each)
    return found


def _of(folder: RunFolder) -> RunSpending | None:
    try:
        with folder.files_to_look_at() as files:
            try:
                stat = (files / _FILE).stat()
            except OSError:
                return None
            return _read(files, stat.st_ino, stat.st_mtime_ns, stat.st_size, *stamp_of(files))
    except DatagenError as error:
        return RunSpending(problem=str(error))


@lru_cache(_KNOWN)
def _read(files: Path, *_stamp: int) -> RunSpending | None:
    """Return what the account in a folder says; again at once, unless it was written."""
    try:
        from llm_datagen.llm.cost.spend_file import SpendFile
    except ModuleNotFoundError:  # where the extra is not installed
        return None
    spent, lost, in_flight, untold = (
        Spent(each.picodollars / PICO, each.tokens) for each in SpendFile(files).read_all()
    )
    return RunSpending(spent, lost, in_flight, untold)
