"""The table of docs/explanation/guarantees.md, "All six together": measured, cell by cell.

A cell is a delivery, a kind of fsync and an accident. Its claim follows from what the torture of random pipelines with
these settings has found; the page says nothing that was not measured.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple, get_args

from llm_datagen.config import DeliveryMode, Fsync

from .tally import Tally
from .torture import torture

ACCIDENTS = {"kill": "the process dies", "power": "the machine dies", "full": "the disk is full"}
"""What happens, and the heads of the columns."""

NOUNS = {"kill": "kills", "power": "cuts", "full": "full disks"}

AGAIN = "calls in flight again"
GIVEN_UP = "in flight: abandoned"
REFUSED = "may be refused"
MORE = "may call more again"
MORE_GIVEN_UP = "may abandon more"
NOT_KEPT = "**not kept**: may call twice"
WRONG = "**wrong**"

A_SEED = 3
"""Accidents a seed."""

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


class Cell(NamedTuple):
    """What is tried together."""

    delivery: str
    fsync: str
    accident: str

    def claims(self, tally: Tally) -> list[str]:
        """Return what can be said of it, after what was found."""
        if tally.findings:
            return [WRONG]
        once = self.delivery == "exactly_once"
        more = MORE if once else MORE_GIVEN_UP
        worse = [REFUSED] * bool(tally.refused) + [NOT_KEPT] * bool(tally.twice) + [more] * bool(tally.beyond)
        return worse or [AGAIN if once else GIVEN_UP]


CELLS = [Cell(*key) for key in product(get_args(DeliveryMode), get_args(Fsync), ACCIDENTS)]


def measure(
    folder: Path, *, seed: int, accidents: int, job: int = 0, jobs: int = 1, cells: Sequence[Cell] = CELLS
) -> None:
    """Measure every cell, or the share of one of several jobs; the tallies go to ``<folder>/cells-<job>.json``.

    Args:
        folder: where.
        seed: the first seed; each cell has the same ones.
        accidents: how many a cell.
        job: which of the jobs this is, from 0.
        jobs: how many share the work.
        cells: what to measure.
    """
    with (folder / f"cells-{job}.json").open("w") as file:
        for number, cell in enumerate(cells):
            if number % jobs != job:
                continue
            tally, at = Tally(), seed
            while tally.accidents < accidents and not tally.findings:
                work = folder / f"{'-'.join(cell)}-{at}"
                most = min(A_SEED, accidents - tally.accidents)
                tally.add(torture(at, most, work, accident=cell.accident, delivery=cell.delivery, fsync=cell.fsync))
                at += 1
            file.write(json.dumps([list(cell), tally.as_dict()]) + "\n")
            file.flush()


def measured(folder: Path, *, seed: int, accidents: int, jobs: int = 1) -> dict[Cell, Tally]:
    """Measure every cell, with several processes if wanted. The caller must have one thread."""
    drivers = []
    for job in range(1, jobs):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                measure(folder, seed=seed, accidents=accidents, job=job, jobs=jobs)
                code = 0
            finally:
                os._exit(code)
        drivers.append(pid)
    measure(folder, seed=seed, accidents=accidents, jobs=jobs)
    if any(os.waitpid(pid, 0)[1] for pid in drivers):
        raise RuntimeError("a driver has failed; see what it said above")
    found: dict[Cell, Tally] = {}
    for path in folder.glob("cells-*.json"):
        for key, values in map(json.loads, path.read_text().splitlines()):
            found[Cell(*key)] = Tally()
            found[Cell(*key)].add(values)
        path.unlink()
    return {cell: found[cell] for cell in CELLS}


def render(tallies: dict[Cell, Tally], how: str) -> str:
    """Return the section of the page: the table, and what it is measured by.

    Args:
        tallies: what was found.
        how: the command.
    """
    lines = [f"| `delivery` | `fsync` | {' | '.join(ACCIDENTS.values())} |", "|---|---|---|---|---|"]
    for delivery, fsync in dict.fromkeys((cell.delivery, cell.fsync) for cell in tallies):
        texts = [_text(Cell(delivery, fsync, name), tallies[delivery, fsync, name]) for name in ACCIDENTS]  # type: ignore[index]
        lines.append(f"| `{delivery}` | `{fsync}` | {' | '.join(texts)} |")
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    wrong = (
        f"**{len(total.findings)} findings**"
        if total.findings
        else "no row and no dead letter was lost, repeated or torn"
    )
    return "\n".join(
        [
            *lines,
            "",
            f"Measured by `{how}`: {total.accidents:,} accidents, {total.runs:,} runs brought to their end and",
            f"compared with a model, {total.refused:,} refused; {wrong}.",
        ]
    )


def _text(cell: Cell, tally: Tally) -> str:
    text = ", ".join(cell.claims(tally))
    rows, most = tally.peak
    if len(cell.claims(tally)) > 1 or tally.refused:
        text += f" ({tally.refused} of {tally.accidents} {NOUNS[cell.accident]} refused)"
    elif most:
        text += f", at most {rows} of {most} rows ({tally.accidents} {NOUNS[cell.accident]})"
    return text


def claims_of(page: str) -> dict[Cell, list[str]]:
    """Return what a page says of each cell.

    Raises:
        ValueError: when its table is not one of these.
    """
    section = between(page)
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    if not rows or rows[0] != ["`delivery`", "`fsync`", *ACCIDENTS.values()]:
        raise ValueError(f"the head of the table is {rows[:1]}")
    known = (AGAIN, GIVEN_UP, REFUSED, MORE, MORE_GIVEN_UP, NOT_KEPT, WRONG)
    found: dict[Cell, list[str]] = {}
    for delivery, fsync, *texts in rows[2:]:
        for accident, text in zip(ACCIDENTS, texts, strict=True):
            cell = Cell(delivery.strip("`"), fsync.strip("`"), accident)
            found[cell] = [claim for claim in known if claim in text]
    return found


def between(page: str) -> str:
    """Return what a page has between the marks.

    Raises:
        ValueError: when it has none.
    """
    found = re.search(re.escape(BEGIN) + r"\n(.*?)\n" + re.escape(END), page, re.DOTALL)
    if found is None:
        raise ValueError(f"there is no {BEGIN} … {END}")
    return found[1]


def contradictions(said: dict[Cell, list[str]], tallies: dict[Cell, Tally]) -> list[str]:
    """Return where a page promises more than was found.

    What is refused, or called twice, at times need not be in a small run; so a page may say worse than that found, but
    only where the medium was not waited for.
    """
    found = []
    for cell, tally in tallies.items():
        good = AGAIN if cell.delivery == "exactly_once" else GIVEN_UP
        may_be_worse = cell.accident == "power" and cell.fsync != "flush"
        if not may_be_worse and said[cell] != [good]:
            found.append(f"{cell} is said to be {said[cell]}, and nothing but {good!r} would do")
        covered = [*said[cell], good]
        if REFUSED in covered:  # who has to start afresh calls everything again
            covered += [MORE, MORE_GIVEN_UP]
        worse = [claim for claim in cell.claims(tally) if claim not in covered]
        if worse:
            found.append(f"{cell} is said to be {said[cell]}, and was found to be {worse}: {tally.findings}")
    return found
