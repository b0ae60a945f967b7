"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A folder to run pipelines in."""
    return Bench(tmp_path)
