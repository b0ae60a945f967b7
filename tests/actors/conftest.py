"""Fixtures: every test leaves nothing behind, and a test that hangs fails soon, with the stacks of all threads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pykka
import pytest

from llm_datagen.actors.stage import Stage

from ..kit.actors import HANG_SECONDS, SteppingClock, go_by, no_aside_left
from ..kit.support import nothing_left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a hang in here fail quickly."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HANG_SECONDS))


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """F2, after each test: no actor, no thread, no open file, no signal handler; and nobody is blocked."""
    monkeypatch.chdir(tmp_path)
    try:
        with nothing_left():
            yield
            no_aside_left()
    finally:
        pykka.ActorRegistry.stop_all(block=False)  # after a failure: else the process would not end


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns often, so that more of what can happen happens."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteppingClock:
    """A clock that moves only when told to, for every stage that is started in the test."""
    stepping = SteppingClock()
    go_by(stepping, Stage, monkeypatch)
    return stepping
