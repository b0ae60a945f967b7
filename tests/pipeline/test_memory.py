"""Memory is flat: it depends on what is in flight, never on how many rows there are (DESIGN, M29)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEMORY = Path(__file__).with_name("memory.py")
PEAKS = Path(__file__).with_name("peaks.py")


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


@pytest.mark.slow
def test_memory_is_flat_over_150_000_rows(tmp_path: Path) -> None:
    """75 MB through two nodes at once: peak below 150 MB, and no more at the end than at a quarter."""
    check(tmp_path, 150_000)


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_memory_is_flat_over_a_million_rows(tmp_path: Path) -> None:
    """500 MB through two nodes at once: the same bounds."""
    check(tmp_path, 1_000_000)


def peak(folder: Path, kind: str, count: int, **settings: Any) -> float:
    """Return the most memory that a run took, in MB."""
    done = subprocess.run(
        [sys.executable, str(PEAKS), str(folder), kind, str(count), json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(kind, count, settings, figures)
    assert figures["rows"] == count
    for path in folder.glob("out.jsonl*"):
        path.unlink()
    return float(figures["peak"])


GROUPS = [("items", 1, 1, 80), ("items", 1, 8, 80), ("items", 500, 1, 100), ("batches", 500, 1, 80)]
"""Kinds, batch and parallel sizes, and MB. A busy machine makes a call look slow: then all 500 threads are started."""


@pytest.mark.parametrize(("kind", "batch_size", "parallel_size", "limit"), GROUPS)
@pytest.mark.slow
def test_a_node_takes_little_memory_however_its_rows_are_grouped(
    tmp_path: Path, kind: str, batch_size: int, parallel_size: int, limit: int
) -> None:
    """M29: 50 MB of input, which would show if they were held."""
    assert peak(tmp_path, kind, 100_000, batch_size=batch_size, parallel_size=parallel_size) < limit


@pytest.mark.torture
@pytest.mark.parametrize(("kind", "batch_size", "parallel_size", "limit"), GROUPS)
def test_a_node_takes_no_more_memory_for_more_rows(
    tmp_path: Path, kind: str, batch_size: int, parallel_size: int, limit: int
) -> None:
    """M29: 150 MB of input."""
    assert peak(tmp_path, kind, 300_000, batch_size=batch_size, parallel_size=parallel_size) < limit


@pytest.mark.slow
def test_rows_of_a_megabyte_wait_for_a_slow_disk_in_bounded_memory(tmp_path: Path) -> None:
    """M20, M29: 500 of them are within `queue_size`, and would be 500 MB; the bound in bytes is what holds."""
    assert peak(tmp_path, "wide", 500) < 350


@pytest.mark.slow
def test_a_row_that_becomes_very_many_is_not_held(tmp_path: Path) -> None:
    """M29: 300,000 children, some 40 MB as bytes, and several times that as objects."""
    assert peak(tmp_path, "children", 300_000) < 120


@pytest.mark.parametrize(("kind", "count"), [("nul", 1_500), ("quote", 300_000)])
@pytest.mark.slow
def test_damaged_input_is_not_held(tmp_path: Path, kind: str, count: int) -> None:
    """Line 18: 15 MB of lines of NULs (27 times that was held), and as much behind a quote that is not closed."""
    assert peak(tmp_path, kind, count, on_error="skip") < 100


@pytest.mark.torture
@pytest.mark.parametrize(("kind", "count"), [("nul", 15_000), ("quote", 3_000_000)])
def test_more_damaged_input_takes_no_more_memory(tmp_path: Path, kind: str, count: int) -> None:
    """Line 18: 150 MB."""
    assert peak(tmp_path, kind, count, on_error="skip") < 100


@pytest.mark.torture
def test_a_row_that_becomes_a_million_is_not_held(tmp_path: Path) -> None:
    """M29: 130 MB as bytes."""
    assert peak(tmp_path, "children", 1_000_000) < 200
