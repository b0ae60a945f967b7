"""`llm-datagen compare A B`: the rows of two runs, or of two versions, side by side."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Command
from .shell import Shell


def _file(shell: Shell, key: str, last: Any = "ops:odd") -> str:
    return shell.yaml([{"use": "ops:add", "with": {"much": 5, "key": key}}, last])


@pytest.fixture
def versions(shell: Shell, command: Command) -> Shell:
    """A run "a" of two versions: the first adds 5 to `n`, and the second one 10 to `m`; each keeps odd rows."""
    rows = "".join(f'{{"n": {n}, "m": {n}}}\n' for n in range(6))
    (shell.folder / "in.jsonl").write_text(rows)
    command("run", _file(shell, "n"), "--id", "a")
    _file(shell, "m")
    said = command("resume", "a", "--rerun").output
    assert "side by side: llm-datagen compare a@1 a" in said
    return shell


@pytest.mark.slow
def test_rows_of_two_versions_are_shown_side_by_side(versions: Shell, command: Command) -> None:
    # Version 1 has the rows 0, 2 and 4, whose n is odd by then; version 2 the rows 1, 3 and 5.
    shown = command("compare", "a@1", "a@2").output.splitlines()
    assert shown[0] == (
        "a@1 (3 rows of node_1) and a (3 rows of node_1): 0 the same, 0 changed, 3 only in a@1, 3 only in a"
    )
    assert shown[1].startswith("* no id is in both")
    shown = command("compare", "a@1", "a", "--node", "0", "--limit", "2").output.splitlines()
    assert shown[0] == (
        "a@1 (6 rows of node_0) and a (6 rows of node_0): 0 the same, 6 changed, 0 only in a@1, 0 only in a"
    )
    assert [line.split() for line in shown[1:]] == [
        ["row", "column", "a@1", "a"],
        ["0", "≠", "n", "5", "0"],
        ["≠", "m", "0", "5"],
        ["1", "≠", "n", "6", "1"],
        ["≠", "m", "1", "6"],
        ["4", "rows", "more:", "--offset", "2"],
    ]
    assert command("compare", "a@1", "a", "--node", "0", "--offset", "4").output.splitlines()[2].split()[0] == "4"


@pytest.mark.slow
def test_as_json_and_only_some(versions: Shell, command: Command) -> None:
    command(
        "run", _file(versions, "m", {"use": "ops:add", "with": {"much": 1}}), "--id", "b", "--output", "other.jsonl"
    )
    data = json.loads(command("compare", "a", "b", "--only", "b", "--limit", "1", "--json").output)
    assert data == {
        "a": {"run": "a", "node": "node_1", "rows": 3, "repeated": 0},
        "b": {"run": "b", "node": "node_1", "rows": 6, "repeated": 0},
        "counts": {"same": 0, "changed": 3, "a": 0, "b": 3},
        "offset": 0,
        "rows": [{"id": 0, "kind": "b", "columns": [], "a": None, "b": {"n": 1, "m": 5}}],
    }
    data = json.loads(command("compare", "a", "b", "--only", "changed", "--json").output)
    assert [(row["id"], row["columns"]) for row in data["rows"]] == [(1, ["n"]), (3, ["n"]), (5, ["n"])]
    same = command("compare", "a", "b", "--node", "0", "--only", "same", "--limit", "1").output.splitlines()
    assert same[0].endswith("6 the same, 0 changed, 0 only in a, 0 only in b")
    assert [line.split() for line in same[2:]] == [
        ["0", "=", "n", "0"],
        ["=", "m", "5"],
        ["5", "rows", "more:", "--offset", "1"],
    ]


def test_long_values_are_cut_unless_all_of_them_is_wanted(shell: Shell, command: Command) -> None:
    for name, text in (("a", "x" * 400), ("b", "\x1b[31m" + "y" * 400)):
        (shell.folder / f"{name}.in.jsonl").write_text(json.dumps({"n": 1, "t": text}) + "\n")
        command(
            "run", shell.yaml(["ops:odd"]), "--id", name, "--input", f"{name}.in.jsonl", "--output", f"{name}.jsonl"
        )
    cut = command("compare", "a", "b").output
    assert "x" * 300 + "… (400 characters)" in cut
    assert "\x1b" not in cut
    assert "x" * 400 in command("compare", "a", "b", "--full").output


def test_a_text_that_looks_like_a_number_is_told_from_it(shell: Shell, command: Command) -> None:
    for run, values in (
        ("a", '{"n": 1, "m": null, "t": "x", "u": 0}\n'),
        ("b", '{"n": "1", "m": "null", "t": "x", "u": 0}\n'),
    ):
        (shell.folder / "in.jsonl").write_text(values)
        command(
            "run",
            shell.yaml([{"use": "llm_datagen.ops:Drop", "with": {"columns": "u"}}]),
            "--id",
            run,
            "--output",
            f"{run}.jsonl",
        )
    shown = command("compare", "a", "b").output.splitlines()
    assert [line.split() for line in shown[2:]] == [
        ["0", "≠", "n", "1", '"1"'],
        ["≠", "m", "null", '"null"'],
        ["=", "t"],
    ]


def test_what_cannot_be_compared_is_refused(versions: Shell, command: Command) -> None:
    assert "there is no run 'c'" in command("compare", "a", "c", code=2).output
    assert "has no such node" in command("compare", "a", "a@1", "--node", "7", code=2).output


@pytest.mark.slow
def test_runs_without_ids_in_their_outputs_are_compared_by_those_that_they_keep(shell: Shell, command: Command) -> None:
    for much in (1, 2):
        file = shell.yaml([{"use": "ops:add", "with": {"much": much}}], keep_ids=False)
        command("run", file, "--id", "a", *(["--if-exists", "resume", "--rerun"] if much == 2 else []))
    told = command("compare", "a@1", "a", "--limit", "1").output.splitlines()
    assert "0 the same, 50 changed" in told[0]
    assert told[2].split() == ["0", "≠", "n", "1", "2"]
    assert "have no ids" in command("compare", "a@1", "a", "--node", "export", code=2).output
