"""Fixtures: every test leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..kit.jobs import Jobs
from ..support import nothing_left
from .kills import JOB


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """F2, after each test; and what a test writes to the working directory lands in its own folder."""
    monkeypatch.chdir(tmp_path)
    with nothing_left():
        yield


@pytest.fixture
def jobs() -> Jobs:
    """Runs of `job.py` that can be killed."""
    return Jobs(JOB)
