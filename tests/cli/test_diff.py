"""`llm-datagen diff ID`: what a resume would do with the file as it is now."""

from __future__ import annotations

import json
import linecache
import shlex
import sys
from typing import Any

import pytest

from llm_datagen.runs import RunFolder

from ..kit import programs
from ..kit.support import numbered, write_jsonl
from .conftest import Command
from .shell import Shell


def _file(shell: Shell, much: int, **settings: Any) -> str:
    return shell.yaml([{"use": "ops:add", "with": {"much": 0}}, {"use": "ops:add", "with": {"much": much}}], **settings)


@pytest.fixture
def edited(shell: Shell, command: Command) -> Shell:
    """A run "a" that is completed, and whose second step was edited in the file since."""
    command("run", _file(shell, 1), "--id", "a")
    _file(shell, 2)
    return shell


@pytest.mark.slow
def test_the_diff_of_a_file_says_what_the_resume_then_does(edited: Shell, command: Command) -> None:
    before = {path: path.read_bytes() for path in edited.folder.rglob("*") if path.is_file() and path.name != "lock"}
    shown = command("diff", "a").output.splitlines()
    assert [line.split() for line in shown[:4]] == [
        ["node", "what", "rows", "kept", "to", "do", "calls", "cost"],
        ["node_0", "add", "kept", "50", "0", "0", "-"],
        ["node_1", "add", "redone", "0", "50", "0", "-"],
        ["all", "0", "-"],
    ]
    assert shown[4:] == [
        "* node_1: argument much 1 → 2",
        "to do it: llm-datagen resume a --rerun; what is there now is kept as a@1",
    ]
    data = json.loads(command("diff", "a", "--json").output)
    assert [(node["what"], node["rows_kept"], node["rows_to_do"]) for node in data["nodes"]] == [
        ("kept", 50, 0),
        ("redone", 0, 50),
    ]
    assert (data["edited"], data["kept_as"], data["version"], data["unknown"]) == (True, "a@1", 1, [])
    assert before == {path: data for path in before if (data := path.read_bytes())}
    command("resume", "a", "--rerun")
    assert [row["n"] for row in edited.rows()] == [n + 2 for n in range(50)]
    shown = command("diff", "a").output.splitlines()
    assert [line.split()[2] for line in shown[1:3]] == ["kept", "kept"]
    assert shown[-1] == "there is nothing to do"


def test_another_file_may_be_compared_and_settings_that_are_not_used_are_told(edited: Shell, command: Command) -> None:
    (edited.folder / "other.yaml").write_text((edited.folder / "p.yaml").read_text().replace("much: 2", "much: 3"))
    assert "* node_1: argument much 1 → 3" in command("diff", "a", "other.yaml").output
    told = " ".join(command("diff", "a", _file(edited, 1, parallel_size=4)).output.split())
    assert "goes on with parallel_size=1, as its run state says; the code gives parallel_size=4" in told


def _hint(shown: str) -> list[str]:
    """Return the command that a diff ends with, as it is typed."""
    typed = shown.splitlines()[-1].removeprefix("to do it: llm-datagen ").partition(";")[0]
    return shlex.split(typed)


@pytest.mark.process
def test_the_command_that_a_diff_prints_does_what_it_says(edited: Shell) -> None:
    """Also with another file than that of the run, and where the diff was typed."""
    there = edited.folder / "some where"
    there.mkdir()
    other = (edited.folder / "p.yaml").read_text().replace("much: 2", "much: 3")
    (edited.folder / "other file.yaml").write_text(other)
    results = str(edited.folder / "tmp/results")
    shown = edited.run("diff", "a", "../other file.yaml", "--results-dir", results, cwd=there).stdout
    assert "* node_1: argument much 1 → 3" in shown
    assert _hint(shown) == ["resume", "a", "../other file.yaml", "--results-dir", results, "--rerun"]
    done = edited.run(*_hint(shown), cwd=there)
    assert done.returncode == 0, done.stderr
    assert [row["n"] for row in edited.rows()] == [n + 3 for n in range(50)]
    shown = edited.run("diff", "a", "p.yaml").stdout
    assert _hint(shown) == ["resume", "a", "p.yaml", "--rerun"]
    assert edited.run(*_hint(shown)).returncode == 0
    assert [row["n"] for row in edited.rows()] == [n + 2 for n in range(50)]


@pytest.mark.slow
def test_where_nothing_can_be_kept_a_diff_prints_the_command_that_replaces(edited: Shell, command: Command) -> None:
    (edited.folder / "tmp/results/a@1").mkdir()
    state = (edited.folder / "tmp/results/a/runtime.json").read_text()
    there = state.replace("out.jsonl", "other.jsonl").replace(
        "node_0.jsonl", "other_0.jsonl"
    )  # its files are no other's
    (edited.folder / "tmp/results/a@1/runtime.json").write_text(there)
    shown = command("diff", "a").output
    assert "* a rerun is refused: run 'a@1' is there already" in shown
    assert shown.splitlines()[-1] == "to do it: llm-datagen resume a --replace; what is there now is deleted"
    command(*_hint(shown))
    assert [row["n"] for row in edited.rows()] == [n + 2 for n in range(50)]


def test_a_diff_names_the_plan_of_what_it_was_given(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    shell.yaml(["ops:odd", "ops:check"])
    assert "llm-datagen plan p.yaml tries some" in command("diff", "a", "p.yaml").output
    assert f"llm-datagen plan {shell.folder / 'p.yaml'} tries some" in command("diff", "a").output


def test_dead_letters_stay_unless_they_are_replayed(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:picky"], on_error="dead_letter"), "--id", "a")
    told = command("diff", "a").output
    assert "* node_0: 9 rows failed, and stay dead letters; replay does them" in told
    assert told.splitlines()[1].split() == ["node_0", "picky", "kept", "50", "0", "0", "-"]
    replayed = command("diff", "a", "--replay").output.splitlines()
    assert replayed[1].split() == ["node_0", "picky", "kept", "41", "9", "0", "-"]
    assert replayed[-1] == "to do it: llm-datagen replay a"


@pytest.mark.process
def test_a_run_of_a_program_is_compared_with_the_code_that_is_named(shell: Shell, command: Command) -> None:
    def program(much: int) -> None:
        shell.text(
            "import functools, ops\n"
            "from llm_datagen import UnifiedPipeline\n"
            f"pipeline = UnifiedPipeline([functools.partial(ops.add, much={much})], 'in.jsonl', 'out.jsonl')\n"
            "if __name__ == '__main__':\n"
            "    pipeline.create('a').run()\n",
            "prog.py",
        )

    program(0)
    assert programs.run(["prog.py"], cwd=shell.folder).returncode == 0
    program(100)
    refused = " ".join(command("diff", "a", code=2).output.split())
    assert "say it: llm-datagen diff a module:pipeline" in refused
    shown = command("diff", "a", "prog:pipeline").output
    assert "* node_0: argument much 0 → 100" in shown
    assert shown.splitlines()[-1].startswith("to do it: llm-datagen resume a prog:pipeline --rerun; ")


@pytest.mark.slow
def test_of_an_earlier_version_there_is_no_diff(edited: Shell, command: Command) -> None:
    command("resume", "a", "--rerun")
    assert "'a@1' is an earlier version of the run 'a'" in " ".join(command("diff", "a@1", code=2).output.split())
    assert command("diff", "a@2").output == command("diff", "a").output


ASKING = '''
from llm_datagen import BaseOperator


class Ask(BaseOperator):
    """Each row is a call."""

    def process_item(self, item, ctx):
        ctx.report_usage({"provider": "p", "model": "m", "requests": 1})
        return item
'''


def _as_killed(shell: Shell, lost: int) -> None:
    """Leave a run as a kill does whose process had committed so many rows since it saved the run state."""
    folder = RunFolder(str(shell.folder / "tmp/results"), "a")
    folder.lock.acquire()
    state = folder.load()
    state["status"] = "running"
    state["nodes"][0]["rows_in"] -= lost
    state["nodes"][0]["usage"][0]["requests"] -= lost
    folder.save(state)
    folder.lock.release()


def _calls(command: Command) -> tuple[int, int]:
    """Return how many rows a rerun would do, and how many calls it would make."""
    (node,) = json.loads(command("diff", "a", "--json").output)["nodes"]
    return node["rows_to_do"], node["use"]["calls"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kills", [1, 3])
def test_calls_that_were_lost_at_a_kill_do_not_make_the_others_cheaper(
    shell: Shell, command: Command, kills: int
) -> None:
    (shell.folder / "asking.py").write_text(ASKING)
    file = shell.yaml(["asking:Ask"])
    command("run", file, "--id", "a")
    for number in range(kills):
        _as_killed(shell, 30 if number == 0 else 5)
        command("resume", "a")
        write_jsonl(shell.folder / "in.jsonl", numbered(60 + 10 * number))
        assert _calls(command) == (10, 10)
        command("resume", "a")
    (shell.folder / "asking.py").write_text(ASKING.replace("return item", "return {**item}"))
    sys.modules.pop("asking")
    linecache.clearcache()
    rows = 50 + 10 * kills
    assert _calls(command) == (rows, rows)
    command("resume", "a", "--rerun")
    write_jsonl(shell.folder / "in.jsonl", numbered(rows + 10))
    assert _calls(command) == (10, 10)
    assert "at least" not in command("diff", "a").output


@pytest.mark.parametrize("again", [False, True], ids=["once", "killed again"])
def test_where_nobody_knows_what_was_lost_a_diff_says_at_least(shell: Shell, command: Command, again: bool) -> None:
    """An earlier version has resumed the run."""
    (shell.folder / "asking.py").write_text(ASKING)
    command("run", shell.yaml(["asking:Ask"]), "--id", "a")
    folder = RunFolder(str(shell.folder / "tmp/results"), "a")
    folder.lock.acquire()
    folder.save({**folder.load(), "usage_is_partial": True})
    folder.lock.release()
    if again:
        _as_killed(shell, 5)
        command("resume", "a")
    write_jsonl(shell.folder / "in.jsonl", numbered(60))
    assert "calls and cost are at least these: a process of the run was killed" in command("diff", "a").output
