"""A loop (`ops.Feedback`) in which a step was edited: what draws from rows that are done again is done again, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ..kit.support import lines, write_jsonl
from .conftest import Command
from .shell import Shell


def _file(shell: Shell, judge: int, after: int = 0, *, of: str | None = "accept") -> str:
    """Write a loop in which an edit of the judge lets other rows pass."""
    steps = [
        {"use": "ops.Feedback", "with": {"of": of, "k": 2, "columns": ["n", "score"]}},
        {"use": "ops:add", "with": {"much": 0}},
        {"use": "ops:add", "with": {"much": judge, "key": "score"}},
        {"use": "ops.Keep", "name": "accept", "with": {"condition": "score >= 5"}},
        {"use": "ops:add", "with": {"much": after}},
    ]
    write_jsonl(shell.folder / "in.jsonl", [{"n": n, "score": n % 10} for n in range(60)])
    return shell.yaml(steps, streaming=True, max_lead=5)


def _drawn(shell: Shell, folder: str = "tmp/a") -> list[dict[str, Any]]:
    """Return all rows that were shown."""
    return [example for row in lines(shell.folder / folder / "node_0.jsonl") for example in row["examples"]]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("of", ["accept", "node_3"])
def test_the_whole_loop_is_done_again_and_both_diff_and_refusal_say_so(shell: Shell, command: Command, of: str) -> None:
    command("run", _file(shell, 0, of=of), "--id", "a")
    accepted = {(row["n"], row["score"]) for row in lines(shell.folder / "tmp/a/node_3.jsonl")}
    assert accepted
    assert {(row["n"], row["score"]) for row in _drawn(shell)} <= accepted
    _file(shell, 100, of=of)
    shown = command("diff", "a").output
    rows = [line.split()[2:5] for line in shown.splitlines()[1:6]]
    assert rows == [["redone", "0", "60"], *[["redone", "0", "~60"]] * 3, ["redone", "0", "~30"]]
    assert "* node_0: the rows that it draws from (node_3) are done again" in shown
    refused = " ".join(command("resume", "a", code=1).output.split())
    assert "done again (also node_0, which draws from node_3, and all behind: Feedback makes a loop of them)" in refused
    command("resume", "a", "--rerun")
    now = {(row["n"], row["score"]) for row in lines(shell.folder / "tmp/a/node_3.jsonl")}
    assert now.isdisjoint(accepted)
    assert len(lines(shell.output)) == 60
    assert _drawn(shell)
    assert {(row["n"], row["score"]) for row in _drawn(shell)} <= now, "of this version"
    assert Path(shell.folder / "a@1/out.jsonl").exists()


def test_an_edit_behind_what_is_drawn_leaves_the_loop_as_it_is(shell: Shell, command: Command) -> None:
    command("run", _file(shell, 0), "--id", "a")
    before = (shell.folder / "tmp/a/node_0.jsonl").read_bytes()
    _file(shell, 0, after=1)
    whats = [line.split()[2] for line in command("diff", "a").output.splitlines()[1:6]]
    assert whats == ["kept", "kept", "kept", "kept", "redone"]
    assert "Feedback" not in command("resume", "a", code=1).output
    command("resume", "a", "--rerun")
    assert (shell.folder / "tmp/a/node_0.jsonl").read_bytes() == before


def test_an_accepted_edit_keeps_what_was_drawn(shell: Shell, command: Command) -> None:
    command("run", _file(shell, 0), "--id", "a")
    before = (shell.folder / "tmp/a/node_0.jsonl").read_bytes()
    _file(shell, 100)
    command("resume", "a", "--accept-changes")
    assert (shell.folder / "tmp/a/node_0.jsonl").read_bytes() == before
