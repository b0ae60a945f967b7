"""`llm-datagen pause`, `unpause`, `reconfigure`: orders to another process's run, through its control socket."""

from __future__ import annotations

import json
import socket
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.cli.cancel import send_cancel
from llm_datagen.errors import ConfigError, ControlError
from llm_datagen.runtime import RunFolder
from llm_datagen.runtime.control import ask

from ..support import PATIENCE_SECONDS, bag, eventually, lines, numbered, write_jsonl
from .conftest import Command
from .shell import Shell

ROWS = 50


def test_a_run_of_another_process_is_paused_changed_and_goes_on(shell: Shell, command: Command) -> None:
    """M30: no call begins while it is paused; the rows are right; only the user may speak; nothing is left (F2)."""
    with shell.started("run", shell.yaml([{"use": "ops:Gate", "with": {"minds_cancel": False}}]), "--id", "a") as run:
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        owner = folder.owner()
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
        assert changed == "run a: node_0 has parallel_size 3, batch_size 1, 900 rows a second at most\n"
        image = folder.path / "runtime.json"
        eventually(lambda: json.loads(image.read_bytes())["nodes"][0]["parallel_size"] == 3)

        assert "parallel_size" in command("reconfigure", "a", "--parallel-size", "0", code=2).stderr
        assert "no node 'x'" in command("reconfigure", "a", "--node", "x", "--batch-size", "2", code=2).stderr
        assert "there is no run 'z'" in command("pause", "z", code=2).stderr
        with pytest.raises(ConfigError, match="there is no order 'stop'"):
            ask(folder, "stop")
        with pytest.raises(ConfigError, match="colour"):
            ask(folder, "pause", colour=1)
        folder.owner_path.write_text(json.dumps({**json.loads(folder.owner_path.read_bytes()), "token": "other"}))
        with pytest.raises(ControlError, match="another run has begun"):  # a pid, or a path, is not enough
            ask(folder, "unpause")
        with pytest.raises(ControlError, match="another run has begun"):
            send_cancel(folder)
        folder.owner_path.write_text(json.dumps({**json.loads(folder.owner_path.read_bytes()), "token": owner.token}))

        assert command("unpause", "a").stdout == "run a: running, not paused\n"
        assert run.wait(PATIENCE_SECONDS) == 0
    assert not address.exists()
    assert "run 'a' is not running" in command("pause", "a", code=1).stderr
    assert bag({"n": row["n"]} for row in shell.rows()) == bag(numbered(ROWS))
    assert shell.calls() == list(range(ROWS))


def test_the_socket_that_a_killed_process_has_left_is_replaced(shell: Shell, command: Command) -> None:
    with shell.started("run", shell.yaml(["ops:Gate"]), "--id", "a") as run:
        shell.reach()
        folder = RunFolder("tmp/results", "a")
        owner = folder.owner()
        assert owner is not None
        run.kill()
        run.wait()
        assert Path(owner.control).exists()
        assert "is not running" in command("pause", "a", code=1).stderr
    shell.open_gate()
    command("resume", "a")
    assert not Path(owner.control).exists()


def test_a_run_goes_on_where_no_socket_can_be_made(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when somebody else has made a folder of that name, or one that others may enter."""
    monkeypatch.setattr("llm_datagen.runtime.control._homes", lambda: iter([Path("x" * 120), Path("missing")]))
    write_jsonl(Path("few.jsonl"), numbered(3))
    found: list[str] = []

    def look(row: dict[str, int]) -> dict[str, int]:
        owner = folder.owner()
        assert owner is not None
        found.append(owner.control)
        with pytest.raises(ControlError, match="no control socket"):
            ask(folder, "pause")
        return row

    folder = RunFolder("tmp/results", "a")
    UnifiedPipeline([look], "few.jsonl", "few_out.jsonl", log_file=None).create("a").run()
    assert found == [""] * 3
    assert len(lines(Path("few_out.jsonl"))) == 3


def test_a_run_of_another_host_is_not_steered_from_here(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    folder = RunFolder("tmp/results", "a")
    folder.lock()
    owner = folder.owner()
    assert owner is not None
    folder._save_owner(replace(owner, host="elsewhere"))
    with pytest.raises(ControlError, match="runs on elsewhere"):
        ask(folder, "pause")
    folder.unlock()
