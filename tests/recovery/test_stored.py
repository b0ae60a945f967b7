"""What an earlier version left on disk goes on: formats on disk are a promise. See `stored/job.py`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ..kit.programs import run
from ..kit.support import bag, lines

STORED = Path(__file__).with_name("stored")
CALLS = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "LLM_DATAGEN_CASSETTE": "calls.jsonl"}
OUTPUTS = {"line": "out.csv", "graph": "merged.jsonl"}
ROWS = {"line": 171, "graph": 200}


def left(folder: Path) -> Path:
    """Unpack what the earlier version left."""
    with tarfile.open(STORED / "killed.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    shutil.copy(STORED / "job.py", folder)
    return folder


def rows(path: Path) -> list[Any]:
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "_i"} for row in lines(path)]


PROGRAM = ["job.py"]
COMMAND = ["-m", "llm_datagen.cli", "resume", "--results-dir", "runs"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("by", "name"),
    [(PROGRAM, "line"), (PROGRAM, "graph"), (COMMAND, "line")],
    ids=["program", "graph", "command line"],
)
def test_a_run_that_an_earlier_version_was_killed_in_goes_on(tmp_path: Path, by: list[str], name: str) -> None:
    """With the same program, and by what the run itself says of its operators: all rows are there, each once."""
    old, new = left(tmp_path / "old"), tmp_path / "new"
    new.mkdir()
    for file in ("job.py", "in.jsonl", "calls.jsonl"):
        shutil.copy(old / file, new)
    begun = (old / OUTPUTS[name]).read_bytes()
    assert 20 < begun.count(b"\n") < 100
    for folder, arguments in (
        (old, [*by, name]),
        (new, ["job.py", name]),
        (old, ["-m", "llm_datagen.cli", "verify", "--results-dir", "runs", name]),
    ):
        done = run(arguments, cwd=folder, env={**os.environ, **CALLS})
        assert done.returncode == 0, done.stdout + done.stderr
    assert (old / OUTPUTS[name]).read_bytes().startswith(begun)
    assert bag(rows(old / OUTPUTS[name])) == bag(rows(new / OUTPUTS[name]))
    assert len(rows(new / OUTPUTS[name])) == ROWS[name]


def test_of_a_run_of_an_earlier_version_what_an_edit_replaces_is_kept(tmp_path: Path) -> None:
    """The old formats are read in a version as they are in a run; what is before the edited step is not done again."""
    old = left(tmp_path)
    begun = lines(old / "odd.jsonl")
    code = (old / "job.py").read_text()
    (old / "job.py").write_text(code.replace("end_here)", "end_there)") + END_THERE)
    found = {}
    for command in ("diff", "resume"):
        flags = ["--json"] if command == "diff" else ["--rerun"]
        arguments = ["-m", "llm_datagen.cli", command, "--results-dir", "runs", "graph", "job:graph", *flags]
        found[command] = run(arguments, cwd=old, env={**os.environ, **CALLS})
        assert found[command].returncode == 0, found[command].stdout + found[command].stderr
    nodes = {node["node_id"]: node for node in json.loads(found["diff"].stdout)["nodes"]}
    assert {name: node["what"] for name, node in nodes.items()} == {
        "split": "kept",
        "split.even": "kept",
        "split.odd": "kept",
        "halve": "kept",
        "merge.merge": "kept",
        "merge": "redone",
    }
    assert [row["there"] for row in lines(old / "merged.jsonl")] == [True] * ROWS["graph"]
    assert not any("there" in row for row in lines(old / "graph@1" / "merged.jsonl"))
    assert lines(old / "odd.jsonl")[: len(begun)] == begun
    for name in ("graph", "graph@1"):
        done = run(
            ["-m", "llm_datagen.cli", "verify", "--results-dir", "runs", name], cwd=old, env={**os.environ, **CALLS}
        )
        assert done.returncode == 0, done.stdout + done.stderr


END_THERE = """

def end_there(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "there": True}
"""
