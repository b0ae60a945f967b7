"""Fixtures: every test leaves nothing behind, and a test that hangs fails soon, with the stacks of all threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..kit.actors import HANG_SECONDS, no_aside_left
from ..kit.support import nothing_left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a hang in here fail quickly."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HANG_SECONDS))


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """F2, after each test."""
    with nothing_left():
        yield
        no_aside_left()
