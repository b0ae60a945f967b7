"""Which faults to try: some or every failpoint of a run, and disks that are slow or full."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from llm_datagen.testing import Fault

Choice = Callable[[list[tuple[str, str]]], Iterator[Fault]]
"""From the failpoints of a run to the faults to try."""


def some_of_each(dice: random.Random, most: int) -> Choice:
    """Return a choice of `most` faults that takes each kind of failpoint in turn, at a random hit of it."""

    def choose(points: list[tuple[str, str]]) -> Iterator[Fault]:
        kinds: dict[tuple[str, str], list[int]] = {}
        for number, (operation, path) in enumerate(points, 1):
            kinds.setdefault((operation, Path(path).name), []).append(number)
        order = list(kinds)
        dice.shuffle(order)
        for number in range(most):
            kind = order[number % len(order)]
            yield _fault(dice, kind[0], dice.choice(kinds[kind]), dice.random() < 0.5)

    return choose


def every(dice: random.Random) -> Choice:
    """Return the choice of all failpoints, before and after each; of writes, also torn."""

    def choose(points: list[tuple[str, str]]) -> Iterator[Fault]:
        for number, (operation, _) in enumerate(points, 1):
            yield Fault(hit=number, when="before")
            yield Fault(hit=number, when="after")
            if operation == "write":
                yield _fault(dice, operation, number, True)

    return choose


def _fault(dice: random.Random, operation: str, hit: int, late: bool) -> Fault:
    if operation == "write" and dice.random() < 0.6:
        return Fault(hit=hit, action="tear", keep=dice.choice((0, 1, 2, 9, 40, 200)))
    return Fault(hit=hit, when="after" if late else "before")


def slow_step(dice: random.Random) -> Fault:
    """Return a disk that is slow at some step: it makes the moment before that step longer, and easier to hit."""
    operation, path = dice.choice(
        (
            ("write", "*.commits"),
            ("write", "*/node_?.*.commits"),
            ("write", "*/node_?.*"),
            ("write", "*/out.*"),
            ("write", "*.errors.jsonl"),
            ("write", "*.dispatched"),
            ("rename", "*.commits"),
            ("rename", "*.done"),
            ("remove", "*"),
            ("rename", "*/runtime.json"),
            ("read", "*"),
        )
    )
    seconds = dice.choice((0.002, 0.01, 0.02))
    return Fault(operation=operation, path=path, action="delay", seconds=seconds, times=None)  # type: ignore[arg-type]


def full_disk(dice: random.Random, points: list[tuple[str, str]]) -> Fault:
    """Return a disk that is full from some write of a run on; the first write may still have room for a part."""
    writes = [number for number, (operation, _) in enumerate(points, 1) if operation == "write"]
    hit = dice.randint(1, len(writes))
    if dice.random() < 0.5:
        keep = dice.choice((1, 7, 40))
        return Fault(operation="write", hit=hit, action="tear", keep=keep, error="ENOSPC", times=None)
    return Fault(operation="write", hit=hit, action="raise", error="ENOSPC", times=dice.choice((None, None, 1)))
