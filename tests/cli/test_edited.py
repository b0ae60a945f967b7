"""Runs whose operators were edited in the YAML file: refused, accepted, done again; and state is told by a preview."""

from __future__ import annotations

import json
import linecache
import re
import sys
from pathlib import Path

import pytest

from llm_datagen.runs import RunFolder
from llm_datagen.runs.typed_commands import default_results

from ..kit import programs
from .conftest import Command
from .shell import Shell


@pytest.fixture
def begun(shell: Shell, command: Command) -> str:
    """A run "a" that ended at its row 7, and whose first step adds 100 in place of 0 by now."""
    command("run", _file(shell, 0), "--id", "a", code=1)
    (shell.folder / "mended").touch()
    return _file(shell, 100)


def _file(shell: Shell, much: int) -> str:
    return shell.yaml([{"use": "ops:add", "with": {"much": much}}, "ops:picky"], streaming=False)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("verb", ["run", "resume"])
@pytest.mark.parametrize("choice", ["", "--accept-changes", "--rerun"])
def test_an_edited_file_goes_on_only_as_it_is_told(
    shell: Shell, command: Command, begun: str, verb: str, choice: str
) -> None:
    typed = ["run", begun, "--id", "a", "--if-exists", "resume"] if verb == "run" else ["resume", "a"]
    if not choice:
        refused = command(*typed, code=1).output
        assert "node_0 (add): argument much 0 → 100 (50 rows are done)" in refused
        assert "--accept-changes" in refused
        assert "--rerun" in refused
        return
    said = command(*typed, choice).output
    assert "the operator changed since rows were made (argument much 0 → 100)" in said
    assert "OperatorWarning" not in said
    added = 100 if choice == "--rerun" else 0  # node_0 had done all of its rows
    assert [row["n"] for row in shell.rows()] == [n + added for n in range(50)]


def test_both_choices_at_once_are_refused(command: Command, begun: str) -> None:
    assert "give one of them" in command("resume", "a", "--accept-changes", "--rerun", code=2).output


@pytest.mark.slow
@pytest.mark.process
def test_edits_of_a_program_are_read_only_where_the_command_line_says_where(shell: Shell, command: Command) -> None:
    """A prompt, say, or any other argument: the run state has that of the run."""

    def program(much: int) -> None:
        shell.text(
            "import functools, ops\n"
            "from llm_datagen import UnifiedPipeline\n"
            f"operators = [functools.partial(ops.add, much={much}), ops.picky]\n"
            "pipeline = UnifiedPipeline(operators, 'jsonl://in.jsonl', 'jsonl://out.jsonl')\n"
            "if __name__ == '__main__':\n"
            "    pipeline.create('a').run()\n",
            "prog.py",
        )

    program(0)
    begun = programs.run(["prog.py"], cwd=shell.folder)
    assert begun.returncode == 1
    (shell.folder / "mended").touch()
    program(100)
    run_state = RunFolder(default_results(), "a").path / "runtime.json"
    before = run_state.read_bytes()
    for flag in ("--rerun", "--accept-changes"):
        refused = " ".join(command("resume", "a", flag, code=2).output.split())
        assert "edits of the program, such as a prompt, are not read" in refused
        assert f"llm-datagen resume a module:pipeline {flag}" in refused
    assert run_state.read_bytes() == before
    told = command("resume", "a").output
    assert "Edits of the program, such as a prompt, are not read" in told
    assert "llm-datagen resume a module:pipeline" in told
    assert [row["n"] for row in shell.rows()] == list(range(50))
    command("resume", "a", "prog:pipeline", "--rerun")
    assert [row["n"] for row in shell.rows()] == [n + 100 for n in range(50)]


@pytest.mark.slow
def test_status_tells_of_rows_of_several_versions_until_they_are_done_again(
    shell: Shell, command: Command, begun: str
) -> None:
    command("resume", "a", "--accept-changes")
    told = " ".join(command("status", "a").output.split())
    assert (
        "node_0: rows are of an earlier version of the operator: 50 of 50 were done before an edit was accepted "
        "(argument much); a resume with --rerun does them again"
    ) in told
    assert "done again" in command("resume", "a", "--rerun").output
    assert [row["n"] for row in shell.rows()] == [n + 100 for n in range(50)]
    assert "version of the operator" not in command("status", "a").output
    assert "nothing of this run is done again" in " ".join(command("resume", "a", "--rerun").output.split())


def test_a_preview_names_state_between_calls_and_not_what_setup_sets(shell: Shell, command: Command) -> None:
    shell.text(
        "class Counting:\n"
        "    name = 'Counting'\n"
        "    def setup(self):\n"
        "        self.count = 0\n"
        "        self.limit = 3\n"
        "    def process_item(self, item, ctx):\n"
        "        self.count += 1\n"
        "        return item\n",
        "counting.py",
    )
    shown = command("preview", shell.yaml(["counting:Counting"])).output
    assert "state     attribute count changed between calls: a crash takes it away" in shown
    assert "limit" not in shown
    assert "state" not in command("preview", shell.yaml(["ops:odd"])).output


def test_settings_that_were_edited_in_the_file_and_are_not_used_are_told(shell: Shell, command: Command) -> None:
    """Those of the run and those of a step; also one that is now what it is unless given."""

    def file(**step: int) -> str:
        operators = [{"use": "ops:add", "with": {"much": 1}, **step}, "ops:picky"]
        return shell.yaml(operators, streaming=bool(step), parallel_size=len(step) + 1)

    command("run", file(batch_size=4), "--id", "a", code=1)
    (shell.folder / "mended").touch()
    said = " ".join(command("resume", "a", file()).output.split())
    assert "run 'a' goes on with streaming=True, parallel_size=2, as its run state says" in said
    assert "the code gives streaming=False, parallel_size=1" in said
    assert "batch_size" not in said, "the file does not give it any more"
    said = " ".join(command("resume", "a", file(batch_size=1)).output.split())
    assert "node_0 of run 'a' goes on with batch_size=4, as its run state says; the code gives batch_size=1" in said


@pytest.mark.parametrize("flag", ["--accept-changes", "--rerun"])
def test_what_is_to_become_of_edits_is_refused_where_the_code_has_created_the_run(
    shell: Shell, command: Command, flag: str
) -> None:
    shell.text(
        "import ops\nfrom llm_datagen import UnifiedPipeline\n"
        "def made():\n    return UnifiedPipeline([ops.picky], 'jsonl://in.jsonl', 'jsonl://out.jsonl').create('a')\n",
        "prog.py",
    )
    assert "is created already" in " ".join(command("run", "prog:made", flag, code=2).output.split())


def _edit(shell: Shell, before: str, after: str) -> None:
    """Edit the operators, as somebody in another process would have: they are imported anew."""
    path = shell.folder / "ops.py"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    del sys.modules["ops"]
    linecache.clearcache()


@pytest.mark.slow
def test_a_replay_after_an_edit_says_what_to_type_and_counts_the_rows_that_stay(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:picky"], on_error="dead_letter"), "--id", "a")
    _edit(shell, 'item["n"] == 11', 'item["n"] == 1111')
    refused = " ".join(command("replay", "a", code=1).output.split())
    assert "picky): code (41 rows are done, 9 are dead letters)" in refused
    assert "type the same command with --accept-changes: what is done stays" in refused
    assert "on_change" not in refused
    shown = "Rows kept and done again, calls and cost, before anything is spent: llm-datagen diff a --replay (with"
    assert shown in refused
    shell.mend()
    assert "llm-datagen replay a --accept-changes" in command("errors", "a").output
    command("replay", "a", "--accept-changes")
    assert len(shell.rows()) == 50
    told = " ".join(command("status", "a").output.split())
    assert "41 of 50 were done before an edit was accepted" in told


def test_a_replay_of_nothing_but_dead_letters_needs_no_word_on_an_edit(shell: Shell, command: Command) -> None:
    (shell.folder / "in.jsonl").write_text('{"n": 0}\n{"n": 7}\n')
    command("run", shell.yaml(["ops:picky"], on_error="dead_letter"), "--id", "a")
    _edit(shell, 'item["n"] % 7 == 0', 'item["n"] % 7 == 100')
    refused = command("resume", "a", code=1).output
    assert "(2 are dead letters)" in " ".join(refused.split())
    command("replay", "a")
    assert [row["n"] for row in shell.rows()] == [0, 7]
    assert "earlier version" not in command("status", "a").output


JOB = """
from llm_datagen import UnifiedPipeline
from ops import odd

pipeline = UnifiedPipeline([odd], "jsonl://in.jsonl", "jsonl://out.jsonl")
"""


@pytest.mark.sampled(3)
@pytest.mark.parametrize("verb", ["preview", "plan", "run", "describe", "resume"])
@pytest.mark.parametrize(
    ("name", "code", "called"),
    [
        (
            "job:pipeline",
            "pipeline.create('mine', if_exists='resume').run()",
            r"line 6, calls create\(\), as the module job",
        ),
        ("job:pipeline", "pipeline.resume('a')", r"line 6, calls resume\(\) or replay\(\), as the module job"),
        ("job:pipeline", "pipeline.run()", r"line 6, calls run\(\), as the module job"),
        (
            "job:main",
            "def main():\n    pipeline.create('mine', output_uri='other.jsonl').run()",
            r"line 7, calls run\(\), and job:main was only",
        ),
    ],
)
def test_what_is_only_asked_for_its_pipeline_begins_no_run(
    shell: Shell, command: Command, verb: str, name: str, code: str, called: str
) -> None:
    if verb == "resume":
        command("run", shell.yaml(["ops:odd"]), "--id", "a")
    before = shell.output.read_bytes() if shell.output.exists() else None
    shell.text(JOB + code + "\n", "job.py")
    typed = ["resume", "a", name] if verb == "resume" else [verb, name]
    said = " ".join(command(*typed, code=2).output.split())
    assert re.search(called, said), said
    assert (shell.output.read_bytes() if shell.output.exists() else None) == before


def test_a_resume_takes_other_limits(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:no_seven"]), "--id", "a", code=1)
    command("resume", "a", "--on-error", "skip", "--parallel-size", "3", "--rate", "5000")
    (node,) = RunFolder(default_results(), "a").load()["nodes"]
    assert (node["parallel_size"], node["rate"]) == (3, 5000)
    assert "parallel_size must be" in command("resume", "a", "--parallel-size", "0", code=2).output


@pytest.mark.slow
def test_each_command_takes_the_id_of_a_version(shell: Shell, command: Command, begun: str) -> None:
    """The run is the latest one, by its number as well; an earlier one is looked at, and does not go on."""
    command("resume", "a", "--accept-changes")
    for much in (200, 300):
        _file(shell, much)
        said = command("resume", "a", "--rerun").output
        assert f"what was there before is kept as the run a@{much // 100 - 1}" in said
    assert [row["n"] for row in shell.rows()] == [n + 300 for n in range(50)]
    for version, run, first in (("a@1", "a@1", 0), ("a@2", "a@2", 200), ("a@3", "a", 300), ("a", "a", 300)):
        shown = json.loads(command("status", version, "--json").output)
        assert (shown["pipeline_id"], shown["version"], shown["status"]) == (run, int(version[2:] or 3), "completed")
        assert json.loads(command("verify", version, "--json").output)["status"] == "completed"
        assert f'"n":{first},' in command("trace", version, "0").output.replace(" ", "")
        assert "node_0" in command("describe", version).output
        assert "[Run Ended]" in command("logs", version).output
        target = shell.folder / f"{version}.csv"
        command("export", version, "--to", str(target))
        assert target.read_text().count("\n") == 51
    assert "version 3; the one before: a@2" in command("status", "a").output
    assert "version 2 of run a, kept: it does not go on" in command("status", "a@2").output
    assert command("status").output.count("completed") == 3

    def streams() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in shell.folder.rglob("*.jsonl*") if path.name != "timeline.jsonl"}

    before = streams()
    for verb in ("resume", "replay"):
        refused = " ".join(command(verb, "a@1", code=2).output.split())
        kept = "'a@1' is an earlier version of the run 'a', kept to be read and compared"
        assert f"{kept}, so there is nothing to {verb}" in refused
    assert command("resume", "a@3").output.startswith("run a@3: resumed")
    assert streams() == before


@pytest.mark.slow
def test_rerun_and_replace_are_not_said_at_once(shell: Shell, command: Command, begun: str) -> None:
    assert "give one" in command("resume", "a", "--rerun", "--replace", code=2).output
    command("resume", "a", "--replace")
    assert [row["n"] for row in shell.rows()] == [n + 100 for n in range(50)]
    assert [run["pipeline_id"] for run in json.loads(command("status", "--json").output)] == ["a"]
