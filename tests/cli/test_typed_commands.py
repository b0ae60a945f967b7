"""The commands that messages tell people to type: pasted as they are, they do what they say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import PipelineBusyError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.typed_commands import command_line, default_results

from ..kit.support import lines
from .conftest import Command
from .shell import Shell

ODD = "my runs; & $HOME"
"""A folder of runs whose name means something to a shell."""


_WORD = r"(?:'[^']*'|[\w./:@%+=-]+)"


def commands_in(text: str) -> list[list[str]]:
    """Return the words of the commands that a text tells to type, without the program's name."""
    return [shlex.split(found) for found in re.findall(rf"llm-datagen ({_WORD}(?: {_WORD})*)", text)]


def paste(shell: Shell, text: str, verb: str, cwd: Path | None = None) -> CompletedProcess[str]:
    """Type the first command of a verb that a text names, as it is."""
    command = next(words for words in commands_in(text) if words[0] == verb)
    return shell.run(*command, cwd=cwd)


def test_a_run_in_a_folder_of_its_own_is_gone_on_with_by_what_its_summary_says(shell: Shell) -> None:
    failed = shell.run("run", shell.yaml(["ops:picky"]), "--id", "a", "--results-dir", ODD)
    assert failed.returncode == 1
    assert f"go on   llm-datagen resume a --results-dir '{ODD}'\n" in failed.stdout
    assert (shell.folder / ODD / "a/runtime.json").exists()
    assert not (shell.folder / "tmp").exists(), "nothing lies in the default folder"
    shell.mend()
    done = paste(shell, failed.stdout, "resume")
    assert done.returncode == 0, done.stderr
    assert [row["n"] for row in lines(shell.output)] == list(range(50))


def test_a_run_goes_on_without_the_row_that_ended_it_by_what_its_summary_says(shell: Shell) -> None:
    failed = shell.run("run", shell.yaml(["ops:no_seven"]), "--id", "a", "--results-dir", ODD)
    said = f"or without rows that fail: llm-datagen resume a --results-dir '{ODD}' --on-error dead_letter\n"
    assert said in failed.stdout
    done = paste(shell, said, "resume")
    assert done.returncode == 0, done.stderr
    assert len(lines(shell.output)) == 49


def test_dead_letters_are_shown_and_replayed_from_anywhere_by_what_is_said(shell: Shell, tmp_path: Path) -> None:
    """The folder is the default one where the run was started, and another one where the command is typed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = shell.yaml([{"use": "ops:picky", "on_error": "dead_letter"}])
    assert shell.run("run", file, "--id", "a").returncode == 0
    errors = shell.run("errors", "a", "--results-dir", "../tmp/results", cwd=elsewhere)
    assert f"try them again: llm-datagen replay a --results-dir {elsewhere}/../tmp/results\n" in errors.stdout
    each = paste(shell, errors.stdout, "errors", elsewhere)
    assert each.returncode == 0
    assert len(each.stdout.splitlines()) == 9
    shell.mend()
    replayed = paste(shell, errors.stdout, "replay", elsewhere)
    assert replayed.returncode == 0, replayed.stderr
    assert len(lines(shell.output)) == 50


def test_the_default_folder_is_not_named(shell: Shell) -> None:
    failed = shell.run("run", shell.yaml(["ops:picky"]), "--id", "a")
    assert "go on   llm-datagen resume a\n" in failed.stdout
    there = shell.run("run", "p.yaml", "--id", "a")
    assert "continue it with llm-datagen resume a, start afresh with --if-exists overwrite" in " ".join(
        there.stderr.split()
    )


def test_what_is_there_already_is_gone_on_with_by_what_the_refusal_says(shell: Shell) -> None:
    file = shell.yaml(["ops:picky"], results_dir=ODD)
    assert shell.run("run", file, "--id", "a").returncode == 1
    taken = shell.run("run", file, "--id", "a")
    assert taken.returncode == 2
    of_another = shell.run("run", file, "--id", "b")
    assert of_another.returncode == 2
    shell.mend()
    for text in (taken.stderr, of_another.stderr):
        done = paste(shell, " ".join(text.split()), "resume")
        assert done.returncode == 0, done.stderr
    unknown = shell.run("run", file, "--id", "c", "--results-dir", "others")
    assert f"type llm-datagen resume ID --results-dir {shell.folder}/others; else" in " ".join(unknown.stderr.split())


def test_a_run_that_was_killed_is_resumed_by_what_its_status_says(shell: Shell) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a", "--results-dir", ODD) as process:
        shell.reach()
        busy = shell.run("run", "p.yaml", "--id", "a", "--results-dir", ODD, "--if-exists", "resume")
        assert ["cancel", "a", "--results-dir", f"{shell.folder}/{ODD}"] in commands_in(" ".join(busy.stderr.split()))
        process.kill()
        process.wait()
    shell.open_gate()
    status = shell.run("status", "a", "--results-dir", ODD)
    assert f"is gone; resume it: llm-datagen resume a --results-dir '{shell.folder}/{ODD}')" in status.stdout
    done = paste(shell, status.stdout, "resume")
    assert done.returncode == 0, done.stderr
    assert len(lines(shell.output)) == 50


def test_a_row_that_is_not_there_is_traced_to_its_parent_by_what_is_said(shell: Shell) -> None:
    assert shell.run("run", shell.yaml(["ops:twice"]), "--id", "a", "--results-dir", ODD).returncode == 0
    none = shell.run("trace", "a", "3_7", "--results-dir", ODD)
    assert none.returncode == 1
    found = paste(shell, none.stdout, "trace")
    assert found.returncode == 0
    assert "row 3\n" in found.stdout


def test_a_run_of_a_program_names_the_command_that_reads_its_edits(shell: Shell, tmp_path: Path) -> None:
    pipeline = UnifiedPipeline([json.dumps], "jsonl://in.jsonl", "jsonl://texts.jsonl", results_dir=ODD)
    pipeline.create("a")
    refused = shell.run("resume", "a", "--accept-changes", "--results-dir", ODD)
    said = " ".join(refused.stderr.split())
    assert f"llm-datagen resume a module:pipeline --results-dir '{tmp_path}/{ODD}' --accept-changes" in said


def test_the_hint_of_a_lock_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n')
    folder = RunFolder("runs", "a")
    folder.lock.acquire()
    monkeypatch.chdir("/")  # a program that has changed its working directory since
    try:
        again = RunFolder(tmp_path / "runs", "a")
        with pytest.raises(PipelineBusyError) as error:
            again.lock.acquire()
        assert f"(llm-datagen cancel a --results-dir {tmp_path}/runs)" in str(error.value)
    finally:
        folder.lock.release()


def test_an_id_that_looks_like_an_option_is_told_as_an_id(shell: Shell) -> None:
    failed = shell.run("run", shell.yaml(["ops:picky"]), "--id=-a b", "--results-dir", "runs")
    assert "go on   llm-datagen resume --results-dir runs -- '-a b'\n" in failed.stdout
    shell.mend()
    done = shell.run("resume", "--results-dir", "runs", "--", "-a b")
    assert done.returncode == 0, done.stderr


def test_the_folder_of_the_runs_is_that_of_the_option_then_of_the_file_then_of_the_environment(shell: Shell) -> None:
    file = shell.yaml(["ops:odd"], results_dir="of the file")
    assert shell.run("run", file, "--id", "a", "--results-dir", "of the option").returncode == 0
    assert (shell.folder / "of the option/a/runtime.json").exists()
    assert not (shell.folder / "of the file").exists()
    verified = shell.run("verify", "a", "--results-dir", "of the option")
    assert "run a (completed): nothing is wrong" in verified.stdout
    state = json.loads((shell.folder / "of the option/a/runtime.json").read_text())
    assert state["config"]["input_uri"] == "jsonl://in.jsonl"
    shell.output.unlink()
    (shell.folder / "out.jsonl.done").unlink()
    assert shell.run("run", file, "--id", "b", LLM_DATAGEN_RESULTS="of the environment").returncode == 0
    assert (shell.folder / "of the file/b/runtime.json").exists()
    refused = shell.run("run", file, "--id", "c", "--results-dir", "")
    assert refused.returncode == 2


def test_commands_are_quoted_and_name_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command_line("resume", "a", default_results()) == "llm-datagen resume a"
    assert command_line("status", "it's", "s3://b/runs") == "llm-datagen status 'it'\"'\"'s' --results-dir s3://b/runs"
    monkeypatch.setenv("LLM_DATAGEN_RESULTS", "s3://b/runs")
    assert command_line("status", "a", "s3://b/runs/") == "llm-datagen status a"
    assert command_line("trace", "a", "s3://b/runs", arguments=["-1"]) == "llm-datagen trace -- a -1"


def test_commands_in_errors_name_the_run(shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    monkeypatch.setattr("llm_datagen.runs.report.samples._LONGEST_TRACED", 0)
    monkeypatch.setattr("llm_datagen.runs.report.samples._TRACED_BYTES", 0)
    assert "llm-datagen trace a ROW_ID --calls finds it for one" in command("report", "a", "--format", "json").output
    origin = shell.folder / "tmp/results/a/origin.json"
    origin.write_text("{")
    said = " ".join(command("resume", "a", code=2).output.split())
    assert "remove it, and say what to resume: llm-datagen resume a FILE.yaml" in said
    origin.unlink()
    command("resume", "a", "p.yaml")
