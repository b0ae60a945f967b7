"""`llm-datagen pause`, `unpause`, `reconfigure`: orders to another process's run, through its control socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from llm_datagen import OperatorWarning, UnifiedPipeline
from llm_datagen.errors import ConfigError, ControlError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.control_client import ask, not_inherited, open_socket
from llm_datagen.shards.run_commands import send_cancel

from ..kit.support import PATIENCE_SECONDS, bag, eventually, lines, numbered, write_jsonl
from .conftest import Command
from .shell import Shell

ROWS = 50


@pytest.mark.slow
@pytest.mark.process
def test_a_run_of_another_process_is_paused_changed_and_goes_on(shell: Shell, command: Command) -> None:
    """M30: no call begins while it is paused; the rows are right; only the user may speak; nothing is left (F2)."""
    with shell.started("run", shell.yaml([{"use": "ops:Gate", "with": {"minds_cancel": False}}]), "--id", "a") as run:
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        owner = folder.lock.owner()
        assert owner is not None
        address = Path(owner.control)
        with socket.socket(socket.AF_UNIX) as silent:  # who says nothing keeps nobody waiting for long
            silent.connect(str(address))
            assert ask(folder, "status")["paused"] is False
        assert (stat.S_IMODE(address.stat().st_mode), stat.S_IMODE(address.parent.stat().st_mode)) == (0o600, 0o700)

        assert "run a: paused" in command("pause", "a").stdout
        assert ask(folder, "status") == {"status": "running", "paused": True}
        before = len(shell.calls())
        shell.open_gate()
        time.sleep(0.5)  # nothing can be waited for: that nothing happens is the point
        assert len(shell.calls()) == before < ROWS

        changed = command("reconfigure", "a", "--node", "0", "--parallel-size", "3", "--rate", "900").stdout
        assert changed == "run a: node_0 has parallel_size 3, batch_size 1, 900 rows per second at most\n"
        run_state = folder.path / "runtime.json"
        eventually(lambda: json.loads(run_state.read_bytes())["nodes"][0]["parallel_size"] == 3)

        assert "parallel_size" in command("reconfigure", "a", "--parallel-size", "0", code=2).stderr
        assert (
            "known are node_0, Gate" in command("reconfigure", "a", "--node", "x", "--batch-size", "2", code=2).stderr
        )
        assert "there is no run 'z'" in command("pause", "z", code=2).stderr
        with pytest.raises(ConfigError, match="there is no command 'stop'"):
            ask(folder, "stop")
        with pytest.raises(ConfigError, match="colour"):
            ask(folder, "pause", colour=1)
        (folder.path / "owner.json").write_text(
            json.dumps({**json.loads((folder.path / "owner.json").read_bytes()), "token": "other"})
        )
        with pytest.raises(ControlError, match="another run has begun"):  # a pid, or a path, is not enough
            ask(folder, "unpause")
        with pytest.raises(ControlError, match="another run has begun"):
            send_cancel(folder, keep_jobs=False)
        (folder.path / "owner.json").write_text(
            json.dumps({**json.loads((folder.path / "owner.json").read_bytes()), "token": owner.token})
        )

        assert command("unpause", "a").stdout == "run a: running, not paused\n"
        assert run.wait(PATIENCE_SECONDS) == 0
    assert not address.exists()
    assert "run 'a' is not running" in command("pause", "a", code=1).stderr
    assert bag({"n": row["n"]} for row in shell.rows()) == bag(numbered(ROWS))
    assert shell.calls() == list(range(ROWS))


@pytest.mark.process
def test_the_socket_that_a_killed_process_has_left_is_replaced(shell: Shell, command: Command) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a") as run:
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        owner = folder.lock.owner()
        assert owner is not None
        run.kill()
        run.wait()
        # Its socket is there still, unless the run of another test has swept it: that, too, is an owner's right.
        assert "is not running" in command("pause", "a", code=1).stderr
    shell.open_gate()
    command("resume", "a")
    assert not Path(owner.control).exists()


@pytest.mark.slow
@pytest.mark.process
def test_idle_connections_keep_nobody_waiting_and_forked_children_hold_no_socket(
    shell: Shell, command: Command
) -> None:
    """Fifty clients that say nothing, and one that says half of something."""
    with shell.started("run", shell.yaml([{"use": "ops:Gate", "with": {"minds_cancel": False}}]), "--id", "a") as run:
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        owner = folder.lock.owner()
        assert owner is not None
        with contextlib.ExitStack() as idle:
            for number in range(100):
                client = idle.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(owner.control)
                if number == 99:
                    client.sendall(b'{"order":')
            for _ in range(5):
                assert ask(folder, "pause")["paused"] is True
                assert ask(folder, "unpause")["paused"] is False
            late = [idle.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
            for client in late:
                client.connect(owner.control)
                client.settimeout(PATIENCE_SECONDS)
            for client in late:
                assert client.recv(1) == b""  # its time is over
        run.kill()
        run.wait()


@pytest.mark.process
def test_a_forked_child_does_not_listen_for_its_parent() -> None:
    listening = socket.socket(socket.AF_UNIX)
    with listening:
        not_inherited(listening)
        child = os.fork()
        if child == 0:
            os._exit(0 if listening.fileno() == -1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert listening.fileno() != -1


def test_sockets_that_killed_runs_have_left_are_swept_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    short = tempfile.TemporaryDirectory(dir="/tmp")  # addresses are short
    request.addfinalizer(short.cleanup)
    home = Path(short.name)
    monkeypatch.setattr("llm_datagen.runs.control_client._homes", lambda: iter([home]))
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as dead:
        alive.bind(str(home / "alive.sock"))
        alive.listen()
        dead.bind(str(home / "dead.sock"))
        dead.listen()
        dead.close()
        (home / "file.sock").touch()
        opened = open_socket(RunFolder(tmp_path / "results", "a"))
        assert opened is not None
        with opened[0]:
            there = {path.name for path in home.glob("*.*")}
            assert there == {"alive.sock", "file.sock", Path(opened[1]).name}
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(opened[1])


def test_a_run_goes_on_where_no_socket_can_be_made(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when somebody else has made a folder of that name, or one that others may enter."""
    monkeypatch.setattr("llm_datagen.runs.control_client._homes", lambda: iter([Path("x" * 120), Path("missing")]))
    write_jsonl(Path("few.jsonl"), numbered(3))
    found: list[str] = []

    def look(row: dict[str, int]) -> dict[str, int]:
        owner = folder.lock.owner()
        assert owner is not None
        found.append(owner.control)
        with pytest.raises(ControlError, match="no control socket"):
            ask(folder, "pause")
        return row

    folder = RunFolder("tmp/results", "a")
    with pytest.warns(OperatorWarning, match="state of its own"):  # the list
        UnifiedPipeline([look], "few.jsonl", "few_out.jsonl", log_file=None).create("a").run()
    assert found == [""] * 3
    assert len(lines(Path("few_out.jsonl"))) == 3


def test_a_run_of_another_host_is_not_controlled_from_here(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    folder = RunFolder("tmp/results", "a")
    folder.lock.acquire()
    owner = folder.lock.owner()
    assert owner is not None
    folder.write("owner.json", json.dumps({**asdict(owner), "host": "elsewhere"}).encode())
    with pytest.raises(ControlError, match="runs on elsewhere"):
        ask(folder, "pause")
    folder.lock.release()
