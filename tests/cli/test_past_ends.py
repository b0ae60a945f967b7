"""Rows that come to groups which have ended: each command says the same, and what it says to type does it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from llm_datagen.pipeline import resume_checks
from llm_datagen.runs import RunFolder

from ..kit.support import lines, numbered, write_jsonl
from .conftest import Command
from .shell import Shell

GRAPH = """\
input_uri: jsonl://in.jsonl
output_uri: jsonl://out.jsonl
on_error: dead_letter
nodes:
  first: {use: "ops:picky", from: input}
  second: {use: "ops:add", with: {much: 0}, from: first}
  all: {use: ops.GroupBy, with: {by: n}, from: second}
  behind: {use: "ops:add", with: {much: 1}, from: all, to: output}
"""

LINE = """\
input_uri: jsonl://in.jsonl
output_uri: jsonl://out.jsonl
on_error: dead_letter
streaming: true
operators:
  - {use: "ops:picky"}
  - {use: "ops:add", with: {much: 0}}
  - {use: ops.GroupBy, with: {by: n}}
  - {use: "ops:add", with: {much: 1}}
"""

EACH_FILE = pytest.mark.parametrize("text", [GRAPH, LINE], ids=["graph", "line"])


@pytest.fixture
def run(shell: Shell, command: Command, text: str) -> Shell:
    """A completed run "a" of groups, of which 9 rows have failed."""
    command("run", shell.text(text), "--id", "a")
    return shell


def typed(told: str) -> list[str]:
    """Return the command that a refusal, or a diff, says to type."""
    found = re.search(r"llm-datagen ((?:resume|replay) a.*? --rerun)", " ".join(told.split()))
    assert found, told
    return shlex.split(found[1])


def status(folder: Path) -> str:
    return str(RunFolder(str(folder / "tmp/results"), "a").load()["status"])


@EACH_FILE
@pytest.mark.parametrize("verb", ["resume", "replay"])
def test_what_is_refused_changes_nothing_and_the_command_that_it_names_does_it(
    run: Shell, command: Command, verb: str
) -> None:
    before = lines(run.output)
    if verb == "replay":
        run.mend()
    else:
        write_jsonl(run.folder / "in.jsonl", numbered(52))
    refused = command(verb, "a", code=1).stderr
    assert status(run.folder) == "completed"
    assert lines(run.output) == before
    diff = command("diff", "a", *(["--replay"] if verb == "replay" else [])).output
    assert typed(diff) == typed(refused) == [verb, "a", "--rerun"]
    assert "more rows would come to it" in diff
    command(*typed(refused))
    assert len(run.rows()) == len(before) + (9 if verb == "replay" else 2)
    assert "wrong" in command("verify", "a").output
    assert len(lines(run.folder / "a@1" / "out.jsonl")) == len(before)


@EACH_FILE
def test_a_replay_that_an_earlier_build_left_half_way_goes_on_by_the_same_command(run: Shell, command: Command) -> None:
    """Its dead letters were taken out, so there are none; and the run had not ended."""
    run.mend()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_checks, "check_ends", lambda *_, **__: None)
        command("replay", "a", code=1)
    assert status(run.folder) == "failed"
    assert "no dead letters" in command("replay", "a").output
    command("replay", "a", "--rerun")
    assert [row["n"] for row in run.rows()] == [*range(1, 51)]
    assert "no dead letters" in command("replay", "a", "--rerun").output, "it has ended"
    assert json.loads(command("status", "a", "--json").output)["status"] == "completed"
