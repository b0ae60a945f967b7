"""Fixtures: a folder to type commands in, and the program within this process, for what needs no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llm_datagen.cli.app import app

from ..kit.support import nothing_left
from .shell import Shell

Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test in a folder of its own, whose modules are forgotten in the end. No width or color is set outside."""
    monkeypatch.chdir(tmp_path)
    for name in ("LLM_DATAGEN_RESULTS", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)  # tests tell what commands print, wherever they run
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    with nothing_left():
        yield
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with operators and an input."""
    return Shell(tmp_path)


@pytest.fixture
def command() -> Command:
    """Types a command; a wrong exit code shows what was printed."""

    def type_command(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, f"{result.exit_code}: {result.output} {result.exception!r}"
        return result

    return type_command
