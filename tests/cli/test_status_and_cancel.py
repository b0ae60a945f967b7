"""`llm-datagen status` and `cancel`: other processes' runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from llm_datagen import FunctionOperator, UnifiedPipeline
from llm_datagen.errors import ControlError
from llm_datagen.runs import RunFolder
from llm_datagen.shards.run_commands import send_cancel
from llm_datagen.shards.run_view import read_run
from llm_datagen.testing import FakeLLMServer
from llm_datagen.web.folders import ResultsFolders
from llm_datagen.web.run_view import run_json

from ..kit.support import PATIENCE_SECONDS, eventually, write_jsonl
from .conftest import Command
from .shell import Shell


@pytest.mark.slow
def test_status_lists_the_runs_that_there_are(shell: Shell, command: Command) -> None:
    assert command("status").stdout == "no runs in tmp/results\n"
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    dead_letters = [{"use": "ops:picky", "on_error": "dead_letter"}, {"use": "ops:no_seven", "on_error": "skip"}]
    command("run", shell.yaml(["ops:no_seven"], output_uri="jsonl://b.jsonl"), "--id", "b", code=1)
    command("run", shell.yaml(dead_letters, output_uri="jsonl://d.jsonl"), "--id", "d")
    (shell.folder / "tmp/results/c").mkdir()
    (shell.folder / "tmp/results/c/runtime.json").write_text("{")
    listed = command("status").stdout
    assert "a: completed, 50 rows in, 25 out, 0 errors, updated " in listed
    assert "b: failed, 7 rows in, 7 out, 1 error, updated " in listed
    assert "d: completed, 50 rows in, 41 out, 9 errors, updated " in listed
    assert "c: unreadable" in listed
    runs = {run["pipeline_id"]: run for run in json.loads(command("status", "--json").stdout)}
    assert {name: run["status"] for name, run in runs.items()} == {
        "a": "completed",
        "b": "failed",
        "c": "unreadable",
        "d": "completed",
    }
    assert (runs["d"]["failed"], runs["d"]["stalled"]) == (9, [])
    assert (runs["a"]["rows_in"], runs["a"]["rows_out"], runs["a"]["total"]) == (50, 25, 50)


def test_status_of_a_run_tells_of_each_node(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd", "ops:no_seven"]), "--id", "b", code=1)
    told = command("status", "b").stdout
    assert "run b: failed (ValueError: seven is [not] wanted)" in told
    assert "  node_0 odd: completed, 50/50 rows" in told
    assert "  node_1 no_seven: failed, 3/" in told
    assert json.loads(command("status", "b", "--json").stdout)["nodes"][1]["failed"] == 1
    assert "there is no run 'z' in tmp/results (runs there: b)" in command("status", "z", code=2).stderr
    assert "leave --watch away" in command("status", "b", "--watch", "--json", code=2).stderr


@pytest.mark.slow
def test_status_tells_of_a_node_in_which_nothing_moves(shell: Shell, command: Command) -> None:
    """M27: which one, since when, what it waits for and with which rows; and no more when it has gone on."""
    gate = threading.Event()

    def hang(row: Any) -> Any:
        assert gate.wait(PATIENCE_SECONDS)
        return row

    write_jsonl(shell.folder / "one.jsonl", [{"n": 1}])
    operator = FunctionOperator(hang, name="hang")
    pipeline = UnifiedPipeline([operator], "one.jsonl", "out.jsonl", stall_after=0.1, log_file=None).create("a")
    pipeline.start()
    try:
        eventually(lambda: "a: running (node_0 stalled), " in command("status").stdout)
        # On a busy machine it may have waited for its input first.
        eventually(lambda: "waits on operator; " in command("status", "a").stdout)
        told = command("status", "a").stdout
        assert "stalled: nothing has moved for " in told
        assert "waits on operator; 1 rows in flight: 0" in told
        assert json.loads(command("status", "--json").stdout)[0]["stalled"] == ["node_0"]
    finally:
        gate.set()
        pipeline.wait(PATIENCE_SECONDS)
    assert "stalled" not in command("status").stdout + command("status", "a").stdout


@pytest.mark.process
def test_status_names_the_endpoint_that_is_waited_for(shell: Shell, command: Command) -> None:
    with FakeLLMServer() as server:
        server.outage = True
        options = {"prompt": "{{ n }}", "model": "m", "base_url": server.base_url, "max_retries": 0}
        file = shell.yaml([{"use": "llm_datagen.llm:LLMOperator", "with": options}], parallel_size=4)
        with shell.started("run", file, "--id", "a") as run:
            eventually(lambda: "a: running (node_0: outage), " in command("status").stdout)
            eventually(lambda: "); 4 calls wait\n" in command("status", "a").stdout)  # none of them is a probe
            told = command("status", "a").stdout
            data = json.loads(command("status", "a", "--json").stdout)
            page = run_json(read_run(RunFolder("tmp/results", "a")), ResultsFolders(["tmp/results"]), ".", {})
            server.outage = False
            said, errors = run.communicate(timeout=PATIENCE_SECONDS)
    endpoint = f"m at {server.base_url}/chat/completions"
    assert f"0 errors; waits for {endpoint} since 20" in told
    assert " UTC: HTTP 503 (" in told
    assert f"node_0 limits: no endpoint answers its calls ({endpoint})\n" in told
    (down,) = data["nodes"][0]["outage"]["endpoints"]
    assert (down["endpoint"], down["status"]) == (endpoint, 503)
    assert down["error"].startswith(f"HTTP 503 from {server.base_url}/chat/completions, ")
    assert page["nodes"][0]["outage"]["endpoints"][0]["endpoint"] == endpoint
    assert page["warnings"][0].startswith(f"node_0: waits for {endpoint} since ")
    assert (run.returncode, errors) == (0, ""), "the display says it"
    assert f"LLMOperator: warning: outage: calls wait for {endpoint}" in said
    assert "waits for" not in command("status", "a").stdout
    assert json.loads(command("status", "a", "--json").stdout)["nodes"][0]["outage"] is None


def test_a_run_state_of_a_version_that_noted_no_outage_is_read(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    folder = RunFolder("tmp/results", "a")
    state = folder.load()
    assert [entry.pop("outage") for entry in state["nodes"]] == [None]
    folder.lock.acquire()
    folder.save(state)
    folder.lock.release()
    assert "node_0 odd: completed, 50/50 rows" in command("status", "a").stdout


def test_runs_are_looked_for_where_the_option_or_the_environment_says(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_DATAGEN_RESULTS", "kept")
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    assert "a: completed" in command("status").stdout
    assert "no runs in other" in command("status", "--results-dir", "other").stdout
    monkeypatch.delenv("LLM_DATAGEN_RESULTS")
    assert "no runs in tmp/results" in command("status").stdout
    assert "a: completed" in command("status", "--results-dir", "kept").stdout


@pytest.mark.process
def test_a_run_is_cancelled_from_another_process_which_waits_until_it_is_saved(shell: Shell) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a") as run:
        shell.reach()
        cancel = shell.run("cancel", "a", "--reason", "enough")
        assert (cancel.returncode, cancel.stderr) == (0, "")
        assert cancel.stdout.startswith(f"run a: process {run.pid} was asked to cancel\nrun a: canceled (enough)\n")
        assert run.wait(PATIENCE_SECONDS) == 1


@pytest.mark.process
def test_watching_shows_each_change_until_the_end(shell: Shell) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a") as run:
        shell.reach()
        with shell.started("status", "--watch") as watch_all, shell.started("status", "a", "-w") as watch:
            assert watch_all.stdout is not None
            assert watch.stdout is not None
            assert watch_all.stdout.readline().startswith("a: running, ")
            assert watch.stdout.readline() == "run a: running\n"
            shell.open_gate()
            assert run.wait(PATIENCE_SECONDS) == 0
            shown, _ = watch.communicate(timeout=PATIENCE_SECONDS)
            shown_all, _ = watch_all.communicate(timeout=PATIENCE_SECONDS)
    assert (watch.returncode, watch_all.returncode) == (0, 0)
    assert "run a: completed\n  node_0 Gate: completed, 50/50 rows" in shown
    assert shown_all.splitlines()[-1].startswith("a: completed, 50 rows in, 50 out")


@pytest.mark.process
def test_ctrl_c_ends_watching_and_not_the_run(shell: Shell) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a") as run:
        shell.reach()
        with shell.started("status", "a", "--watch") as watch:
            assert watch.stdout is not None
            watch.stdout.readline()
            watch.send_signal(signal.SIGINT)
            assert watch.wait(PATIENCE_SECONDS) == 130
        assert run.poll() is None
        shell.open_gate()
        assert run.wait(PATIENCE_SECONDS) == 0


@pytest.mark.process
def test_cancel_does_not_wait_longer_than_it_is_told(shell: Shell, command: Command) -> None:
    with shell.started("run", shell.yaml([{"use": "ops:Gate", "with": {"minds_cancel": False}}]), "--id", "a") as run:
        shell.reach()
        assert "calls are still in flight after 0.1 s" in command("cancel", "a", "--timeout", "0.1", code=1).stdout
        eventually(lambda: "run a: canceling (llm-datagen cancel)" in command("status", "a").stdout)
        shell.open_gate()
        assert run.wait(PATIENCE_SECONDS) == 1


@pytest.mark.process
def test_cancel_does_not_wait_when_told_so(shell: Shell, command: Command) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a") as run:
        shell.reach()
        assert command("cancel", "a", "--no-wait").stdout == f"run a: process {run.pid} was asked to cancel\n"
        assert run.wait(PATIENCE_SECONDS) == 1


def held(shell: Shell, command: Command, **changes: object) -> RunFolder:
    """Return a folder whose lock is held by this process, and whose run state says what it is told to."""
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    folder = RunFolder("tmp/results", "a")
    folder.lock.acquire()
    folder.save({**folder.load(), "status": "running", "host": socket.gethostname(), **changes})
    return folder


@pytest.mark.process
def test_no_process_is_sent_a_signal_that_does_not_hold_the_lock(shell: Shell, command: Command) -> None:
    """A process id alone may be anybody's: it may have been given away again since."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        folder = held(shell, command, pid=bystander.pid)
        try:
            with pytest.raises(ControlError, match=f"not in process {bystander.pid}"):
                send_cancel(folder, keep_jobs=False)
        finally:
            folder.lock.release()
            bystander.communicate(b"\n")
    assert bystander.returncode == 0


def test_a_run_that_is_about_to_start_is_watched_and_cannot_be_cancelled_yet(shell: Shell, command: Command) -> None:
    folder = held(shell, command, pid=None, status="pending")
    assert read_run(folder).is_live
    with pytest.raises(ControlError, match="it may be starting"):
        send_cancel(folder, keep_jobs=False)
    folder.lock.release()
    assert not read_run(folder).is_live


def test_a_run_of_another_machine_is_not_cancelled_from_here(shell: Shell, command: Command) -> None:
    folder = held(shell, command, pid=os.getpid(), host="elsewhere")
    with pytest.raises(ControlError, match="runs on elsewhere"):
        send_cancel(folder, keep_jobs=False)
    folder.lock.release()


@pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells")
def test_a_process_that_would_die_of_sigterm_is_not_sent_one(shell: Shell, command: Command) -> None:
    """It runs the pipeline by start(), or in another thread, so that nobody would save."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    folder = held(shell, command, pid=os.getpid())
    try:
        with pytest.raises(ControlError, match="would not save"):
            send_cancel(folder, keep_jobs=False)
    finally:
        folder.lock.release()
        signal.signal(signal.SIGTERM, before)
