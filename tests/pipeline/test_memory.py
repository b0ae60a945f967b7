"""Memory is flat: it depends on what is in flight, never on how many rows there are (DESIGN, M29)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MEMORY = Path(__file__).with_name("memory.py")


def check(tmp_path: Path, rows: int) -> None:
    done = subprocess.run(
        [sys.executable, str(MEMORY), str(tmp_path), str(rows)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["rows"] == rows
    assert figures["peak"] < 150
    assert abs(figures["late"] - figures["early"]) < 30
    for path in tmp_path.rglob("*.jsonl"):
        path.unlink()


def test_memory_is_flat_over_150_000_rows(tmp_path: Path) -> None:
    """75 MB through two nodes at once: peak below 150 MB, and no more at the end than at a quarter."""
    check(tmp_path, 150_000)


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_memory_is_flat_over_a_million_rows(tmp_path: Path) -> None:
    """500 MB through two nodes at once: the same bounds."""
    check(tmp_path, 1_000_000)
