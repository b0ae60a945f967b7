"""Commands from the page, to runs of other processes; and how the page sees these live, die and go on."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.runs import RunFolder
from llm_datagen.runs.control_client import ask

from ..cli.shell import Shell
from ..kit.support import Bench, bag, eventually, numbered
from ..kit.web import TOKEN, Client, serving

ROWS = 50
RUN = "/api/runs/0.a"
COMMANDS = f"{RUN}/commands"


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLM_DATAGEN_RESULTS", raising=False)
    return Shell(tmp_path)


def tell(client: Client, command: str, **arguments: Any) -> str:
    """Send a command that is done, and return what happened."""
    answer = client.post(COMMANDS, {"command": command, **arguments})
    assert answer.status == 200, answer
    assert list(answer.json) == ["said"]
    return str(answer.json["said"])


def until(events: Iterator[tuple[str, Any]], **wanted: Any) -> Any:
    """Listen until the run is so."""
    for _, run in events:
        if {name: run.get(name) for name in wanted} == wanted:
            return run
    raise AssertionError(f"it was never {wanted}")


def until_free(folder: RunFolder) -> None:
    eventually(lambda: not folder.lock.is_held(), "nobody has the run")


@pytest.mark.process
def test_a_run_of_another_process_is_steered_killed_and_resumed(shell: Shell) -> None:
    gate = {"use": "ops:Gate", "with": {"minds_cancel": False}}
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(shell.started("run", shell.yaml([gate]), "--id", "a"))
        client = stack.enter_context(serving(shell.folder / "tmp/results"))
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        events = stack.enter_context(client.events("/api/events?run=0.a"))
        seen = until(events, live=True, status="running")
        assert (seen["pid"], seen["paused"]) == (run.pid, False)

        assert tell(client, "pause") == "run a: paused. No new calls; running calls finish and are saved"
        assert ask(folder, "status") == {"status": "running", "paused": True}
        until(events, live=True, paused=True)
        assert client.get("/api/runs/0.a")["nodes"][0]["paused"] is True
        said = tell(client, "reconfigure", node="node_0", parallel_size=3, rate=900)
        assert said == "run a: node_0 has parallel_size 3, batch_size 1, 900 rows per second at most"
        assert next(seen for _, seen in events if seen["nodes"][0]["parallel_size"] == 3)["paused"] is True
        refused = client.post(COMMANDS, {"command": "reconfigure", "node": "node_0", "parallel_size": 0})
        assert (refused.status, "parallel_size" in refused.json["error"]) == (409, True)
        assert client.post(COMMANDS, {"command": "resume"}).json["error"] == (
            "run 'a' is running: there is nothing to resume"
        )
        assert tell(client, "unpause") == "run a: running, not paused"

        run.send_signal(signal.SIGKILL)
        run.wait()
        dead = until(events, live=False)
        assert (dead["status"], dead["nodes"][0]["status"], dead["eta_s"]) == ("interrupted", "interrupted", None)
        assert "resume it: llm-datagen resume a" in dead["reason"]
        assert "is not running" in client.post(COMMANDS, {"command": "pause"}).json["error"]

        shell.open_gate()
        assert "goes on with it" in (said := tell(client, "resume")) or "completed" in said
        done = until(events, status="completed")
        assert (done["rows_done"], done["nodes"][0]["parallel_size"], done["live"]) == (ROWS, 3, False)
        until_free(folder)
    assert bag({"n": row["n"]} for row in shell.rows()) == bag(numbered(ROWS))


@pytest.mark.process
@pytest.mark.slow
def test_a_run_is_cancelled_and_its_dead_letters_are_done_again(shell: Shell) -> None:
    picky = {"use": "ops:picky", "on_error": "dead_letter"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(shell.started("run", shell.yaml([picky, "ops:Gate"]), "--id", "a"))
        client = stack.enter_context(serving(shell.folder / "tmp/results"))
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        assert "was asked to cancel" in tell(client, "cancel", reason="enough")
        until_free(folder)
        page = client.get(RUN)
        assert (page["status"], page["reason"], page["nodes"][0]["dead_letters"]) == ("canceled", "enough", 9)
        shell.mend()
        shell.open_gate()
        assert "run a: replay:" in tell(client, "replay")
        eventually(lambda: client.get(RUN)["status"] == "completed", "it is completed")
        until_free(folder)
        assert client.get(RUN)["nodes"][0]["dead_letters"] == 0
        assert tell(client, "resume").startswith("run a: resume: ")  # there is nothing left to do
    assert bag({"n": row["n"]} for row in shell.rows()) == bag(numbered(ROWS))


@pytest.mark.process
@pytest.mark.slow
def test_a_run_that_the_page_has_resumed_outlives_the_page(shell: Shell) -> None:
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a"))
        shell.reach()
        run.kill()
        run.wait()
        page = stack.enter_context(shell.started("ui", "--token", TOKEN))
        assert page.stdout is not None
        port = int(page.stdout.readline().partition("/#token=")[0].rpartition(":")[2])
        client = Client(port, {"Authorization": f"Bearer {TOKEN}"})
        assert "goes on with it" in tell(client, "resume")
        page.kill()
        page.wait()
        folder = RunFolder("tmp/results", "a")
        eventually(folder.lock.is_held)  # it goes on "as soon as it can"
        shell.open_gate()
        eventually(lambda: folder.load()["status"] == "completed")
        until_free(folder)
    assert bag({"n": row["n"]} for row in shell.rows()) == bag(numbered(ROWS))


@pytest.mark.process
def test_what_cannot_be_done_says_what_to_type(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.pipeline([lambda item: item]).create("a").run(progress=False)
    with serving(bench.results) as client:
        for command in ("resume", "replay"):
            answer = client.post(COMMANDS, {"command": command})
            assert answer.status == 409
            assert f"llm-datagen {command} a FILE.yaml --results-dir {bench.results}" in answer.json["error"]
        assert (
            "no operator of this run has a budget"
            in (client.post(COMMANDS, {"command": "budget", "usd": 1}).json["error"])
        )
        for command in ("pause", "unpause", "cancel"):
            answer = client.post(COMMANDS, {"command": command})
            assert (answer.status, "is not running" in answer.json["error"]) == (409, True)
        wrongs: list[Any] = [
            None, [], {}, {"command": "delete"}, {"command": ["pause"]}, {"command": "pause", "node": "x"},
            {"command": "reconfigure", "parallel_size": "3"}, {"command": "reconfigure", "rate": True},
            {"command": "cancel", "reason": 7}, b"{", b"\xff",
        ]  # fmt: skip
        for wrong in wrongs:
            assert client.post(COMMANDS, wrong).status == 400, wrong
        assert client.post("/api/runs/0.none/commands", {"command": "pause"}).status == 404


def test_a_page_that_is_read_only_changes_nothing(bench: Bench) -> None:
    bench.give(numbered(3))
    bench.pipeline([lambda item: item]).create("a").run(progress=False)
    before = bench.run_state("a")
    with serving(bench.results, read_only=True) as client:
        assert client.get("/api/server")["read_only"] is True
        for command in ("pause", "unpause", "cancel", "resume", "replay", "reconfigure", "budget", "other"):
            answer = client.post(COMMANDS, {"command": command})
            assert (answer.status, list(answer.json)) == (403, ["error"])
        assert client.ask(COMMANDS, method="GET").status == 405
    assert bench.run_state("a") == before
