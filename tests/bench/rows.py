"""Whether results are the rows that the plain loop makes, with the same ids, in whatever order."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from . import plain
from .job import Job
from .operators import OPERATORS


def _rows(path: Path) -> Iterator[Any]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
    else:
        with path.open("rb") as file:
            yield from map(orjson.loads, file)


def digest(path: Path) -> tuple[int, int]:
    """Return how many rows a file has, and a sum over them that does not depend on their order.

    Only good within one process: it is made of Python's `hash`, which is seeded.
    """
    count = total = 0
    for row in _rows(path):
        assert "_i" in row, f"{path}: a row without an id"
        count += 1
        total += hash(orjson.dumps(row, option=orjson.OPT_SORT_KEYS))
    return count, total


class WrongResultError(Exception):
    """Raised when other rows came out than the plain loop makes: the times mean nothing."""


class References:
    """What the plain loop makes of inputs; each is made once.

    Args:
        folder: where to write it for a while.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[Any, ...], tuple[int, int]] = {}

    def expected(self, given: Path, operators: tuple[str, ...]) -> tuple[int, int]:
        """Return the digest of what `operators` make of `given`."""
        key = (given, *(OPERATORS[name].function for name in operators))
        if key not in self._known:
            job = Job(what="plain", input=str(given), folder=str(self._folder), operators=operators)
            self._folder.mkdir(parents=True, exist_ok=True)
            plain.run(job)
            self._known[key] = digest(job.output)
            job.output.unlink()
        return self._known[key]

    def check(self, output: Path, given: Path, operators: tuple[str, ...]) -> None:
        """Make sure that `output` is what `operators` make of `given`.

        Raises:
            WrongResultError: if it is not.
        """
        expected, found = self.expected(given, operators), digest(output)
        if found != expected:
            raise WrongResultError(
                f"{output} has {found[0]} rows, which are not the {expected[0]} that the plain loop makes of {given} "
                f"with {', '.join(operators)}"
            )
