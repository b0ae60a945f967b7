"""Files that are cut or changed between a kill and the resume: the right result, or a refusal that says where."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llm_datagen import DatagenError
from llm_datagen.testing import Fault

from ..kit.support import nothing_left
from .cases import Node
from .faults import _case
from .forks import fork
from .lab import Lab
from .tally import Tally

REFUSED = "REFUSED"

CASES = (
    _case(3, rows=40, nodes=(Node("map", "item", 1, 1, False, 0.0), Node("map", "item", 1, 1, False, 0.0))),
    _case(4, rows=40, nodes=(Node("map", "item", 3, 1, False, 0.001), Node("filter", "batch", 2, 3, False, 0.0))),
    _case(
        5,
        rows=40,
        nodes=(Node("fan", "item", 2, 2, True, 0.0), Node("map", "async item", 2, 1, True, 0.0)),
        between="csv",
    ),
)


class Change(NamedTuple):
    """A file with other content."""

    path: Path
    data: bytes
    what: str


def changed_files(folder: Path, *, share: float, seed: int) -> Tally:
    """Cut and flip every byte of the last commits of both streams of a killed run, or a share of them."""
    tally = Tally()
    dice = random.Random(seed)
    for case in CASES:
        lab = Lab(case, folder / f"changes-{case.seed}")
        if not _kill_half_way(lab):
            tally.findings.append(f"no run could be killed half-way in {case}")
            continue
        tally.kills += 1
        half = folder / f"half-{case.seed}"
        lab.save_as(half)
        for change in list(_changes(lab)):
            if dice.random() > share:
                continue
            lab.restore(half)
            change.path.write_bytes(change.data)
            death = fork(lambda lab=lab, change=change: _resume(lab, change), lab.scratch)  # type: ignore[misc]
            tally.runs += 1
            if death.how != "done":
                wrong = [f"{death.how}: {death.text}"]
            else:
                wrong = [] if death.text.startswith(REFUSED) else lab.problems()
            tally.refused += death.text.startswith(REFUSED)
            tally.findings += [f"{what}\n    {change.what}\n    in {case}" for what in wrong]
    return tally


def _kill_half_way(lab: Lab) -> bool:
    """Kill the run when both streams are unfinished and have three commits at least."""
    for hit in range(6, 40):
        lab.reset()
        death = lab.go(plan=Fault(operation="write", path="*/out.*.commits", hit=hit))
        if death.how == "killed" and all(
            len(_lines(Path(f"{lab.case.stream_path(lab.folder, number)}.commits"))) >= 5 for number in (0, 1)
        ):
            return True
    return False


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _changes(lab: Lab) -> Iterator[Change]:
    for number in (0, 1):
        data = lab.case.stream_path(lab.folder, number)
        log = Path(f"{data}.commits")
        yield from _of(data, _ends(data, _commits(log)))
        yield from _of(log, _ends(log, _lines(log)))


def _commits(log: Path) -> list[int]:
    """Return how many bytes of data there are at each commit."""
    import json

    return [json.loads(line.split(b" ", 2)[2])["bytes"] for line in _lines(log)[1:]]


def _ends(path: Path, commits: list[int] | list[bytes]) -> tuple[int, int, int]:
    """Return where the third last commit begins in a file, where the last one does, and where that ends."""
    if isinstance(commits[0], bytes):
        lines = [line for line in commits if isinstance(line, bytes)]
        size = sum(map(len, lines))
        return size - sum(map(len, lines[-3:])), size - len(lines[-1]), size
    ends = sorted({end for end in commits if isinstance(end, int)})
    ends = [0] * (4 - len(ends)) + ends
    return ends[-4], ends[-2], ends[-1]


def _of(path: Path, marks: tuple[int, int, int]) -> Iterator[Change]:
    first, last, end = marks
    whole = path.read_bytes()
    for length in range(first, len(whole)):
        yield Change(path, whole[:length], f"{path.name} of {len(whole)} bytes, cut to {length}")
    for at in range(last, end):
        flipped = bytes([whole[at] ^ (1 << at % 8)])
        yield Change(path, whole[:at] + flipped + whole[at + 1 :], f"{path.name}: bit {at % 8} of byte {at} flipped")


def _resume(lab: Lab, change: Change) -> None:
    refusal = ""
    with nothing_left():
        try:
            lab.case.create(lab.folder).run()
        except DatagenError as error:
            refusal = str(error)
    if refusal:
        # Cutting the log of one stream can show in the stream made from it.
        names = {Path(lab.case.stream_path(lab.folder, number)).name for number in (0, 1)}
        assert any(name in refusal for name in names), f"the error names no file: {refusal}"
        print(REFUSED, refusal)
