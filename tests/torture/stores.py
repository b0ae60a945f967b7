"""Kills of runs whose inputs, outputs, exports and run state are in an object store, in bad weather."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import fields, replace
from pathlib import Path

from .draws import ANY, random_case
from .exports import EXPORTS
from .judge import Judge
from .store_lab import StoreCase, StoreLab, StoreProcess
from .tally import Tally

KILLS_A_ROUND = 4
"""Kills of one run, before it is let run to its end."""

A_SEED = 12
"""Kills of one seed, about."""

_WRITES = 60
"""A kill at a write to the store is at one of the first of a process, so many."""

_COMPRESSIONS = ("", "", ".gz", ".zst", ".xz")


def store_case(seed: int, scheme: str = "s3") -> StoreCase:
    """Return the case of a seed: as any other, but for what an object store cannot do. `scheme`: of its addresses."""
    dice = random.Random(f"store {seed}")
    case = random_case(
        seed,
        rows=dice.choice((dice.randint(5, 30), dice.randint(30, 120))),
        delivery="exactly_once",
        source=dice.choice(("jsonl", "jsonl", "json-array", "parquet", "arrow", "memory")),
        files=dice.choice((1, 3)),
        compression=dice.choice(_COMPRESSIONS),
        output=dice.choice(("", "", ANY)),
    )
    case = replace(
        case,
        files=1 if case.source == "memory" else case.files,
        flush_batch_size=dice.choice((2, 5, 50)),
        flush_interval=dice.choice((0.01, 0.05, 0.3)),
        exports=case.exports[:2],
        is_exported=case.is_exported and case.exports[0] in EXPORTS,
    )
    of_case = {field.name: getattr(case, field.name) for field in fields(case)}
    return StoreCase(**of_case, has_state_there=dice.random() < 0.7, scheme=scheme)


class _StoreTorture(Judge):
    """Tortures one case in a store."""

    lab: StoreLab

    def __init__(self, seed: int, folder: Path, store: StoreProcess, tally: Tally) -> None:
        case = store_case(seed, store.scheme)
        super().__init__(case, StoreLab(case, folder, store), tally)
        self._dice = random.Random(f"kills {seed}")
        self._seconds = 0.0

    def run(self, kills: int) -> None:
        """Let it run in peace, then kill it `kills` times in all."""
        death = self.lab.go()
        self._seconds = death.seconds
        self.how.append("not killed")
        self.judge(death)
        done = 0
        while done < kills and not self.tally.findings:
            self.reset()
            for _ in range(KILLS_A_ROUND):
                how = self._blow()
                if how == "done" or self.tally.findings:
                    break
                done += how == "killed"
            self.finish()

    def _blow(self) -> str:
        kind = self._dice.random()
        if kind < 0.5:
            self.lab.cut = 1 + self._dice.randrange(_WRITES), self._dice.random() < 0.5
            death = self.lab.go()
            what = f"at write {self.lab.cut}"
            self.lab.cut = None
        else:
            number = signal.SIGTERM if kind < 0.6 else signal.SIGKILL
            after = self._dice.random() * self._seconds
            death = self.lab.go(kill_after=after, kill_with=number)
            what = f"by {number.name} after {after * 1000:.1f} ms"
        self.how.append(f"{death.how} {what}")
        self.weigh(death)
        return death.how

    def finish(self) -> None:
        """Let it run to its end, and compare."""
        self.lab.cut = None
        super().finish()


def stores(folder: Path, *, seed: int, kills: int, storm: float, seconds: float, scheme: str) -> Tally:
    """Run random cases in a store, each killed about `A_SEED` times, until so many kills are done.

    Args:
        folder: where to work.
        seed: the first seed.
        kills: how many kills.
        storm: the share of requests to the store that fail.
        seconds: after which no case is begun.
        scheme: of addresses in the store, which says what kind of store it is.
    """
    end = time.monotonic() + seconds
    store = StoreProcess.start(storm, scheme)
    tally = Tally()
    try:
        while tally.kills < kills and not tally.findings and time.monotonic() < end:
            work = _StoreTorture(seed, folder / f"store-{seed}", store, of_seed := Tally())
            work.run(min(A_SEED, kills - tally.kills))
            if not of_seed.findings:
                work.lab.clean()
            tally.add(of_seed)
            seed += 1
    finally:
        store.stop()
    return tally
