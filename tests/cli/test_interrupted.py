"""Runs that are stopped in the middle, whatever stops them, and resumed: exactly the rows (M21, M25)."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from ..kit.support import PATIENCE_SECONDS, eventually
from .conftest import Command
from .shell import Shell, forget_operators

EXPECTED = [{"n": n, "passed": True, "_i": n} for n in range(50)]


def start_and_signal(shell: Shell, number: int, *arguments: str) -> tuple[int, str, str]:
    """Run the pipeline up to the gate, send a signal, and return how the program ended."""
    with shell.started("run", *arguments, "--id", "a") as process:
        shell.reach()
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, output, errors


@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_end_saves_says_how_to_go_on_and_goes_on(shell: Shell, number: int, code: int) -> None:
    returned, output, errors = start_and_signal(shell, number, shell.yaml(["ops:Gate"]))
    assert (returned, errors) == (code, "")
    assert "run a: canceled after" in output
    assert "  go on   llm-datagen resume a\n" in output
    done = len(shell.rows())
    assert 20 <= done <= 21
    shell.open_gate()
    resumed = shell.run("resume", "a")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert resumed.stdout.startswith(f"run a: resumed, {shell.folder}/p.yaml\n")
    assert f"node_0 Gate: running, {done}/" in resumed.stdout
    assert "run a: completed after" in resumed.stdout
    assert shell.rows() == EXPECTED
    assert shell.calls() == list(range(50))


@pytest.mark.process
def test_a_second_ctrl_c_ends_the_process_at_once_and_nothing_is_lost(shell: Shell) -> None:
    with shell.started("run", shell.yaml([{"use": "ops:Gate", "with": {"minds_cancel": False}}]), "--id", "a") as run:
        shell.reach()
        run.send_signal(signal.SIGINT)
        run_state = shell.folder / "tmp/results/a/runtime.json"
        eventually(lambda: json.loads(run_state.read_text())["status"] == "canceling")
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == -signal.SIGINT
    shell.open_gate()
    assert shell.run("resume", "a").returncode == 0
    assert shell.rows() == EXPECTED


@pytest.mark.process
def test_a_run_that_was_killed_is_shown_as_interrupted_and_resumed_from_anywhere(
    shell: Shell, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    returned, _, _ = start_and_signal(shell, signal.SIGKILL, shell.yaml(["ops:Gate"]))
    assert returned == -signal.SIGKILL
    told = command("status", "a").stdout
    assert "run a: interrupted (the process is gone; resume it: llm-datagen resume a)" in told
    assert "node_0 Gate: interrupted, " in told
    assert "usage and cost are at least these: the last usage before a kill is missing" in told
    listed = command("status").stdout
    assert "a: interrupted, " in listed
    data = json.loads(command("status", "a", "--json").stdout)
    assert (data["status"], data["saved_status"]) == ("interrupted", "running")
    assert data["counts_as_of"] == data["updated_at"]
    when = data["updated_at"][:19].replace("T", " ")
    assert f"errors, as of {when} UTC" in listed
    assert f"counts are those of the last save, {when} UTC: there may be more; llm-datagen verify a counts" in told
    assert "is not running (it is interrupted)" in command("cancel", "a", code=1).stderr
    assert (
        "run 'a' is there already in tmp/results (interrupted)" in command("run", "p.yaml", "--id", "a", code=2).stderr
    )

    shell.open_gate()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    resumed = shell.run("resume", "a", cwd=elsewhere, LLM_DATAGEN_RESULTS=str(shell.folder / "tmp/results"))
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert "  usage   p/m: at least prompt_tokens " in resumed.stdout
    told = command("status", "a").stdout
    assert "usage and cost are at least these" in told
    assert "counts are those" not in told
    assert json.loads(command("status", "a", "--json").stdout)["counts_as_of"] is None
    assert shell.rows() == EXPECTED
    assert list(elsewhere.iterdir()) == []


@pytest.mark.slow
@pytest.mark.process
def test_a_failed_run_goes_on_when_the_cause_is_mended(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:no_seven"]), "--id", "a", code=1)
    assert shell.run("resume", "a").returncode == 1
    operators = shell.folder / "ops.py"
    operators.write_text(operators.read_text().replace('item["n"] == 7', "False"))
    refused = shell.run("resume", "a")
    assert refused.returncode != 0
    assert "code of check (7 rows are done)" in " ".join(refused.stderr.split())
    assert "--accept-changes" in refused.stderr
    assert shell.run("resume", "a", "--accept-changes", "--rerun").returncode != 0
    assert shell.run("resume", "a", "--accept-changes").returncode == 0
    assert [row["n"] for row in shell.rows()] == list(range(50))


@pytest.mark.process
def test_a_run_of_code_is_resumed_by_its_name(shell: Shell) -> None:
    returned, _, _ = start_and_signal(shell, signal.SIGINT, "ops:pipeline", "--set", "writer_config={fsync: never}")
    assert returned == 130
    shell.open_gate()
    resumed = shell.run("resume", "a")
    assert resumed.returncode == 0
    assert "at least" not in resumed.stdout, "nothing is lost without a kill"
    assert [row["n"] for row in shell.rows()] == list(range(1, 50, 2))


@pytest.mark.slow
def test_a_run_that_was_not_started_here_is_resumed_when_it_is_said_from_what(shell: Shell, command: Command) -> None:
    file = shell.yaml(["ops:no_seven"], results_dir="kept")
    command("run", file, "--id", "a", code=1)
    (shell.folder / "kept/a/origin.json").unlink()
    assert "seven is [not] wanted" in command("resume", "a", "--results-dir", "kept", code=1).stderr, (
        "its run state names them"
    )
    assert not (shell.folder / "kept/a/origin.json").exists()
    forget_operators(shell.folder / "kept/a")
    assert "there is no run 'a'" in command("resume", "a", code=2).stderr
    unknown = command("resume", "a", "--results-dir", "kept", code=2).stderr
    assert f"say it: llm-datagen resume a FILE.yaml --results-dir {shell.folder}/kept (or module:name)" in unknown
    assert "seven is [not] wanted" in command("resume", "a", file, code=1).stderr
    origin = json.loads((shell.folder / "kept/a/origin.json").read_text())
    assert origin == {
        "target": str(shell.folder / "p.yaml"),
        "cwd": str(Path.cwd()),
        "folder": str(shell.folder / "kept/a"),
    }
    assert "seven is [not] wanted" in command("resume", "a", "--results-dir", "kept", code=1).stderr


def test_other_operators_than_the_runs_are_refused(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:no_seven"]), "--id", "a", code=1)
    assert "was made with the operators ['no_seven']" in command("resume", "a", shell.yaml(["ops:odd"]), code=1).stderr


def test_a_completed_run_is_resumed_without_a_call(shell: Shell, command: Command) -> None:
    shell.open_gate()
    command("run", shell.yaml(["ops:Gate"]), "--id", "a")
    assert "run a: completed" in command("resume", "a").stdout
    assert shell.calls() == list(range(50))


@pytest.mark.process
def test_a_run_that_is_running_is_not_run_twice(shell: Shell, command: Command) -> None:
    file = shell.yaml(["ops:Gate"])
    with shell.started("run", file, "--id", "a") as process:
        shell.reach()
        refused = command("resume", "a", code=2).stderr
        assert f"is being run by process {process.pid}" in refused
        assert "llm-datagen cancel a" in refused
        shell.open_gate()
        assert process.wait(PATIENCE_SECONDS) == 0
