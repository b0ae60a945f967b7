"""The page beside a run: a process of its own, which ends when the run has ended and nobody looks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.runs import RunFolder, page_process

from ..cli.shell import Shell
from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, numbered
from ..kit.web import Client, cmdline, page_of


def client_of(url: str) -> Client:
    """Return a client that has read the address."""
    address, _, token = url.strip().removeprefix("page: ").partition("/#token=")
    return Client(int(address.rpartition(":")[2]), {"Authorization": f"Bearer {token}"})


def same(item: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return item


@pytest.fixture
def run(bench: Bench) -> RunFolder:
    """A run that has not begun."""
    bench.give(numbered(3))
    bench.pipeline([same]).create("a")
    return RunFolder(bench.results, "a")


@pytest.mark.process
def test_it_ends_when_nobody_has_the_run_and_nobody_looks(run: RunFolder) -> None:
    run.lock.acquire()
    arguments = ["-m", "llm_datagen.web.beside_run", run.results_dir, "a", "--linger", "0.2"]
    with Program(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        client = client_of(process.stdout.readline())
        assert client.get("/api/runs/0.a")["live"] is True
        with client.events() as events:
            assert next(events)[0] == "runs"
            run.lock.release()
            assert next(events)[1]["runs"][0]["live"] is False
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.6)  # somebody looks
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.process
@pytest.mark.slow
def test_a_run_is_shown_by_a_page_that_outlives_it(shell: Shell) -> None:
    with contextlib.ExitStack() as stack:
        started = stack.enter_context(shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a", "--ui"))
        assert started.stdout is not None
        lines = iter(started.stdout.readline, "")
        client = client_of(next(line for line in lines if line.startswith("page: ")))
        shell.reach()
        run = client.get("/api/runs/0.a")
        assert (run["status"], run["live"], run["pid"]) == ("running", True, started.pid)
        page = page_of(started.pid)
        stack.callback(os.kill, page, signal.SIGTERM)
        started.send_signal(signal.SIGINT)  # of the run alone
        assert started.wait(PATIENCE_SECONDS) == 130
        assert client.get("/api/runs/0.a")["status"] == "canceled"
    eventually(lambda: not Path(f"/proc/{page}/cmdline").exists() or b"beside" not in cmdline(page), "it has ended")


@pytest.mark.slow
def test_a_program_shows_its_run(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.give(numbered(3))
    report = bench.pipeline([same]).create("a").run(progress=False, ui=True)
    assert report.rows_out == 3
    client = client_of(capsys.readouterr().err)
    assert client.get("/api/runs/0.a")["status"] == "completed"
    process = page_process._running.pop()
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == 0


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path)


def test_a_page_whose_extra_is_missing_is_refused_before_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_process, "_NEEDED", ("no_such_library",))
    bench.give(numbered(3))
    pipeline = bench.pipeline([same]).create("a")
    with pytest.raises(ConfigError, match=r"the page needs no_such_library; .*'llm-datagen\[web\]'"):
        pipeline.run(ui=True)
    assert bench.run_state("a")["status"] == "pending"


@pytest.mark.process
@pytest.mark.slow
def test_why_a_page_cannot_be_started_is_said(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_DATAGEN_UI_TOKEN", "short")
    with pytest.raises(ConfigError, match="the page could not be started: --token: give 16 printable"):
        page_process.start_page(run)


@pytest.mark.process
def test_the_command_serves_until_it_is_told_to_end(shell: Shell) -> None:
    (shell.folder / "runs").mkdir()
    with shell.started("ui", "runs", "nowhere", "--read-only", "--token", "a token of mine/+#") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "note: nowhere is not there yet\n"
        url = process.stdout.readline()
        assert url.endswith("/#token=a%20token%20of%20mine%2F%2B%23\n")
        client = Client(client_of(url).port, {"Authorization": "Bearer a token of mine/+#"})
        folders = [str(shell.folder / name) for name in ("runs", "nowhere")]
        assert client.get("/api/server") == {"version": "0.1.0", "read_only": True, "folders": folders}
        with client.events() as events:
            assert next(events) == ("runs", {"runs": [], "warnings": []})
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE_SECONDS) == 0
    refused = shell.run("ui", "--host", "0.0.0.0")
    assert (refused.returncode, "give a token, too" in refused.stderr) == (2, True)
