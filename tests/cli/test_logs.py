"""`llm-datagen logs`: the events of the platform log, filtered, and where the time of a run went (M28)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ..kit.support import lines
from .conftest import Command
from .shell import Shell


def log_two_runs(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd", "ops:odd"], log_file="own.log"), "--id", "a")
    log = {"path": "own.log", "max_bytes": 1500, "backups": 9}
    command("run", shell.yaml(["ops:odd"], output_uri="jsonl://b.jsonl", log_file=log), "--id", "b")


@pytest.mark.slow
def test_events_of_a_run_are_shown_and_filtered(shell: Shell, command: Command) -> None:
    log_two_runs(shell, command)
    shown = command("logs", "a").stdout.splitlines()
    assert len(shown) == 6
    assert "info [Run Started] streaming=false" in shown[0]
    of_node = command("logs", "a", "--event", "Node Ended", "--event", "run ended", "--node", "1").stdout.splitlines()
    assert len(of_node) == 1
    assert "info node_1 [Node Ended] status=completed rows_in=25" in of_node[0]
    assert command("logs", "a", "--since", "1h").stdout.splitlines() == shown
    assert command("logs", "a", "--since", "2099-01-01").stdout == ""


def test_json_is_the_lines_of_the_log_with_its_rotated_files(shell: Shell, command: Command) -> None:
    log_two_runs(shell, command)
    assert Path("own.log.1").exists()
    shown = [json.loads(line) for line in command("logs", "--log-file", "own.log", "--json").stdout.splitlines()]
    files = sorted(Path().glob("own.log.[0-9]*"), key=lambda path: -int(path.suffix[1:]))
    assert shown == [line for file in [*files, Path("own.log")] for line in lines(file)]
    assert {line["pipeline_id"] for line in shown} == {"a", "b"}


@pytest.mark.slow
def test_a_summary_says_what_limits_a_run(shell: Shell, command: Command) -> None:
    log_two_runs(shell, command)
    head, *nodes, sentence = command("logs", "a", "--summary").stdout.splitlines()
    assert head.startswith("run a: ")
    assert head.endswith("; ended")
    assert [line.split(":")[0].strip() for line in nodes] == ["node_0", "node_1"]
    assert "workers 1: busy " in nodes[0]
    assert " limits: " in sentence
    data = json.loads(command("logs", "--log-file", "own.log", "--summary", "--json").stdout)
    assert [run["pipeline_id"] for run in data["runs"]] == ["a", "b"]
    assert data["unreadable"] == 0
    assert {"busy", "held_back", "starved", "busy_s"} <= set(data["runs"][0]["nodes"][0])


@pytest.mark.process
def test_a_run_that_was_interrupted_is_shown_as_far_as_it_is_known(shell: Shell, command: Command) -> None:
    file = shell.yaml([{"use": "ops:Gate"}])
    with shell.started("run", file, "--id", "a") as process:
        shell.reach()
        goes_on = command("logs", "a", "--summary").stdout
        process.kill()
        process.wait()
    assert "it is running, or was killed" in goes_on
    assert "node_0: its end is not in the log; so far " in goes_on
    with (shell.folder / "logs" / "platform.log").open("a") as log:
        log.write('{"event": "[Ope')
    shell.open_gate()
    command("resume", "a")
    shown = command("logs", "a", "--summary").stdout
    assert "it ran again later: it was killed" in shown
    assert "; ended\n" in shown
    assert "1 lines of" not in shown
    assert "1 line of" in shown


def test_the_log_of_a_run_is_found_from_elsewhere(shell: Shell, command: Command) -> None:
    log_two_runs(shell, command)
    elsewhere = shell.folder / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)
    assert "run a: " in command("logs", "a", "--summary", "--results-dir", str(shell.folder / "tmp/results")).stdout


@pytest.mark.slow
def test_wrong_requests_say_what_to_do(shell: Shell, command: Command) -> None:
    assert "there is no such file" in command("logs", code=1).stderr
    log_two_runs(shell, command)
    assert "known are Run Started" in command("logs", "a", "--event", "Nonsense", code=2).stderr
    assert "did you mean 'node_1'?" in command("logs", "a", "--node", "nod_1", code=2).stderr
    assert "--node odd: several nodes have it: node_0, node_1" in command("logs", "a", "--node", "odd", code=2).stderr
    assert "give 90s, 15m" in command("logs", "a", "--since", "yesterday", code=2).stderr
    assert "leave out --event" in command("logs", "a", "--summary", "--event", "Cancel", code=2).stderr
    assert "there is no run 'z'" in command("logs", "z", code=2).stderr
    assert "nothing of run z" in command("logs", "z", "--summary", "--log-file", "own.log").stdout
