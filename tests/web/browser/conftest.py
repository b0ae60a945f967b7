"""Fixtures: one browser for all tests, a folder with a pipeline, and nothing that is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ...kit.chromium import chromium
from .ground import Ground

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file: while it is there, Playwright has an event loop running on their thread."""
    with chromium() as found:
        yield found


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """A folder with a pipeline in YAML, and its endpoint; its processes end with the test."""
    with Ground(tmp_path) as found:
        yield found
