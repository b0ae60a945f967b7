"""Fixtures: nothing is left of a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..kit.support import nothing_left


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Each test leaves nothing behind."""
    with nothing_left():
        yield
