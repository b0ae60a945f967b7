"""Fixtures: a folder for a run, and nothing of it left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..kit.support import Bench, nothing_left


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A folder with an input."""
    with nothing_left():
        yield Bench(tmp_path)
