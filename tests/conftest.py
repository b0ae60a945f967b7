"""Fixtures for all tests; and how many processes run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import Bench


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run named files in this process, so that `-s` and a debugger work; else let xdist count the cores."""
    named = (argument.partition("::")[0] for argument in config.invocation_params.args)
    return 0 if any(argument.endswith(".py") for argument in named) else None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A folder to run pipelines in."""
    return Bench(tmp_path)
