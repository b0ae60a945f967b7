"""The fixture of rooms whose tests run pipelines: each leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import nothing_left


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """F2, after each test; and what a test writes to the working directory lands in its own folder."""
    monkeypatch.chdir(tmp_path)
    with nothing_left():
        yield
