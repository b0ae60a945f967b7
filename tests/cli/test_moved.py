"""A project that was copied or moved: its runs go on in the copy, and never touch what they were copied from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .shell import Shell


@pytest.fixture
def halfway(tmp_path: Path) -> Shell:
    """A project with a run that has failed at its row 7, and whose operator is mended since."""
    (tmp_path / "original").mkdir()
    shell = Shell(tmp_path / "original")
    assert shell.run("run", shell.yaml(["ops:no_seven"], name="p.yaml"), "--id", "a").returncode == 1
    operators = shell.folder / "ops.py"
    operators.write_text(operators.read_text().replace('item["n"] == 7', "False"))
    return shell


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.sampled(1)
@pytest.mark.parametrize("way", ["--accept-changes", "--rerun"])
def test_a_copy_goes_on_in_the_copy_and_the_original_stays_as_it_was(halfway: Shell, tmp_path: Path, way: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(halfway.folder, copy)
    before = content(halfway.folder)
    resumed = halfway.run("resume", "a", way, cwd=copy)
    assert resumed.returncode == 0, resumed.stderr
    assert str(copy / "p.yaml") in resumed.stdout
    assert halfway.run("verify", "a", cwd=copy).returncode == 0
    assert len((copy / "out.jsonl").read_text().splitlines()) == 50
    assert content(halfway.folder) == before
    origin = json.loads((copy / "tmp/results/a/origin.json").read_text())
    assert origin == {"target": str(copy / "p.yaml"), "cwd": str(copy), "folder": str(copy / "tmp/results/a")}


def test_a_project_that_was_moved_goes_on_where_it_is(halfway: Shell, tmp_path: Path) -> None:
    moved = halfway.folder.rename(tmp_path / "moved")
    elsewhere = {"LLM_DATAGEN_RESULTS": str(moved / "tmp/results")}
    resumed = halfway.run("resume", "a", "--accept-changes", cwd=tmp_path, **elsewhere)
    assert resumed.returncode == 0, resumed.stderr
    assert halfway.run("verify", "a", cwd=moved).returncode == 0
    assert len((moved / "out.jsonl").read_text().splitlines()) == 50


@pytest.mark.sampled(2)
@pytest.mark.parametrize("verb", ["resume", "replay", "verify", "errors"])
def test_a_copy_of_the_results_alone_is_refused(halfway: Shell, tmp_path: Path, verb: str) -> None:
    """Its relative paths would be those of the original; that a link leads to it makes no copy."""
    shutil.copytree(halfway.folder / "tmp/results", tmp_path / "kept")
    before = content(tmp_path)
    refused = halfway.run(verb, "a", "--results-dir", str(tmp_path / "kept"))
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    assert f"the folder of run 'a' was {halfway.folder}/tmp/results/a, and is {tmp_path}/kept/a" in said
    assert f"llm-datagen run FILE.yaml --id a --if-exists resume --results-dir {tmp_path}/kept" in said
    assert content(tmp_path) == before
    (tmp_path / "link").symlink_to(halfway.folder / "tmp/results")
    assert "the folder of run 'a' was" not in halfway.run(verb, "a", "--results-dir", str(tmp_path / "link")).stderr
