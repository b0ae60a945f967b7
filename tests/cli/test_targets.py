"""Targets on the command line and in files: `run --target`, `resume --target`, exit code 4, what is shown of them."""

from __future__ import annotations

import json
import re

import pytest

from ..kit.support import lines
from .conftest import Command
from .shell import Shell


@pytest.mark.slow
def test_a_run_with_a_target_ends_with_so_many_rows_and_says_so(shell: Shell, command: Command) -> None:
    done = command("run", shell.yaml(["ops:odd"]), "--id", "a", "--target", "7")
    assert done.exit_code == 0
    assert len(shell.rows()) == 7
    assert re.search(r"node_0 odd: completed, 7/7 out of 1\d rows", done.stdout)
    verified = command("verify", "a").stdout.splitlines()
    assert re.fullmatch(r"node_0 odd: 50 rows in = 7 kept .* pending; 7 rows out, sealed, target met.*", verified[0])
    told = json.loads(command("status", "a", "--json").stdout)["nodes"][0]
    assert (told["target"], told["target_rows"], told["rows_out"]) == (7, 7, 7)
    assert "7/7 out of 1" in command("status", "a").stdout
    assert "BEYOND THE TARGET" in command("trace", "a", "49").stdout


@pytest.mark.slow
def test_a_target_is_raised_by_a_resume_and_exit_code_4_says_that_it_was_not_met(
    shell: Shell, command: Command
) -> None:
    command("run", shell.yaml(["ops:odd"], target=7), "--id", "a")
    assert len(shell.rows()) == 7
    assert command("resume", "a", "--target", "12").exit_code == 0
    assert len(shell.rows()) == 12
    short = command("resume", "a", "--target", "node_0=26", code=4)
    assert "  warning node_0: its input has ended with 25 of the 26 rows of its target" in short.stdout
    assert len(shell.rows()) == 25
    assert command("resume", "a", code=4).exit_code == 4
    assert command("verify", "a").exit_code == 0


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["x"], "--target x: must be a number of rows; or NODE=ROWS"),
        (["3", "4"], "--target 3: must be a number of rows"),
        (["node_0=3", "node_0=4"], "--target node_0=4: must be"),
        (["node_7=3"], "the run has no node 'node_7'"),
        (["6"], "node_0 has 7 rows already, more than 6"),
    ],
)
def test_a_target_that_cannot_be_is_refused(shell: Shell, command: Command, given: list[str], why: str) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a", "--target", "7")
    options = [part for text in given for part in ("--target", text)]
    assert why in " ".join(command("resume", "a", *options, code=2).stderr.split())
    assert len(shell.rows()) == 7


def test_an_operator_in_a_file_has_a_target(shell: Shell, command: Command) -> None:
    file = shell.yaml([{"use": "ops:odd", "target": {"count": 5, "rows": "accepted"}}, "ops:odd"], streaming=True)
    command("run", file, "--id", "a")
    assert len(shell.rows()) == 5
    bad = shell.yaml([{"use": "ops:odd", "target": 0}])
    assert "operators[0].target" in command("run", bad, code=2).stderr


GRAPH = """\
input_uri: in.jsonl
output_uri: out.jsonl
target: 6
nodes:
  a: {use: ops:odd, from: input}
  b: {use: ops:odd, from: a, to: output}
  c: {use: ops:odd, from: a, to: other.jsonl, target: 4}
"""


@pytest.mark.slow
def test_the_target_of_a_graph_is_that_of_the_node_that_writes_its_output(shell: Shell, command: Command) -> None:
    (shell.folder / "g.yaml").write_text(GRAPH)
    command("run", "g.yaml", "--id", "a")
    assert [len(lines(shell.folder / name)) for name in ("out.jsonl", "other.jsonl")] == [6, 4]
    command("run", "g.yaml", "--id", "b", "--if-exists", "error", "--target", "9", code=2)  # the outputs are there
    command("resume", "a", "--target", "b=8")
    assert [len(lines(shell.folder / name)) for name in ("out.jsonl", "other.jsonl")] == [8, 4]
    (shell.folder / "g.yaml").write_text(
        GRAPH.replace("to: output", "to: one.jsonl").replace("output_uri: out.jsonl\n", "")
    )
    assert (
        "target: it is for the rows of the pipeline's output, and no node has to: output"
        in command("run", "g.yaml", code=2).stderr
    )


def test_a_plan_says_that_a_target_ends_the_run_early(shell: Shell, command: Command) -> None:
    said = " ".join(command("plan", shell.yaml(["ops:odd"], target=5)).stdout.split())
    assert "node_0: its target of 5 rows ends the run when about" in said
