"""The tiers of the tests: what a test may start, and how long all tests of a tier may take.

A file belongs to `process` or `unit` when it is listed here, else to `integration`; a test that is marked `slow` or
`torture` belongs to `nightly`, wherever it is. A unit test that starts a thread or a process fails, and says so.
"""

from __future__ import annotations

import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..programs import Program

BUDGETS = {"unit": 20, "integration": 90, "process": 60, "nightly": None}
"""Seconds that all tests of a tier may take on two cores; printed after each run, beside what they took."""

TESTS = Path(__file__).parents[1]

UNIT: frozenset[str] = frozenset(
    """
    """.split()
)
"""Files whose tests start no thread and no process."""

PROCESS: frozenset[str] = frozenset(
    """
    """.split()
)
"""Files with tests that start processes, most of them to kill them."""


def tier_of(item: pytest.Item) -> str:
    """Return the tier of a test."""
    if item.get_closest_marker("slow") or item.get_closest_marker("torture"):
        return "nightly"
    name = item.path.relative_to(TESTS).as_posix()
    return "unit" if name in UNIT else "process" if name in PROCESS else "integration"


@contextmanager
def nothing_started() -> Iterator[None]:
    """Let nothing within the block start a thread or a process."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a unit test starts no thread and no process: see tests/kit/tiers.py")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        patch.setattr(subprocess.Popen, "__init__", refuse)
        patch.setattr(Program, "__init__", refuse)
        yield


def table(reports: list[pytest.TestReport], workers: int) -> list[str]:
    """Return what each tier has taken, from the reports of tests, as its share of the time of so many processes."""
    tests, seconds = Counter[str](), Counter[str]()
    for report in reports:
        for tier in BUDGETS:
            if tier in report.keywords:
                tests[tier] += report.when == "call"
                seconds[tier] += report.duration
    return [
        f"{tier:12} {tests[tier]:5} tests {seconds[tier] / workers:6.0f} s"
        + (f" of {budget} s" if budget is not None else "")
        for tier, budget in BUDGETS.items()
        if tests[tier]
    ]
