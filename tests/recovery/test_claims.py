"""The run state never claims what the streams do not: after a kill before any change of the disk (R1)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..kit import programs
from ..kit.support import PATIENCE_SECONDS
from .claims_job import CASES

JOB = "tests.recovery.claims_job"
ROOT = Path(__file__).parents[2]

GROWN = "has grown since; a resume does them"
"""What `verify` says, rightly, when a sealed node's input has grown."""


@pytest.mark.sampled(1)
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES)
def test_after_any_kill_verify_finds_nothing_wrong(tmp_path: Path, case: str, step: int) -> None:
    """R1: whatever was under way, `verify` is clean after it, and the run goes on to the right end.

    The long form kills before each change of the disk, the other before every seventh of a kind.
    """
    code = f"import sys; from {JOB} import main; main(*sys.argv[1:])"
    done = programs.run(["-c", code, case, tmp_path, step], cwd=ROOT, timeout=3 * PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) >= 2
    assert [line for line in lines if "error" in line] == []
    findings = [(line["at"], text) for line in lines for text in line["findings"]]
    assert [found for found in findings if not (case == "grown between" and GROWN in found[1])] == []
    ends = [line for line in lines if "rows" in line]
    assert ends
    assert {line["status"] for line in ends} == {"completed"}
    for line in ends:
        rows = line["rows"]
        assert [n for n in rows if n != 3] == [n for n in range(max(rows) + 1) if n != 3], line
        assert max(rows) in ({4, 9} if case == "grown between" else {4})
