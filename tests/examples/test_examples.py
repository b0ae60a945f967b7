"""Every example runs, by itself, in an empty directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..kit import programs
from .shell import clean_environment

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.sampled(4)
@pytest.mark.process
@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs_and_finds_its_own_result_right(example: Path, tmp_path: Path) -> None:
    done = programs.run(["-W", "error", example, "."], cwd=tmp_path, env=clean_environment())
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_every_example_is_in_the_index() -> None:
    index = (EXAMPLES.parent / "docs" / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        has_main = "__main__" in example.read_text(encoding="utf-8")
        assert not has_main or f"(../examples/{example.name})" in index, f"{example.name} is missing in docs/README.md"
