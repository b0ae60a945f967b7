"""Self-instruct to exactly 200 rows, killed five times: 200 rows, completed, sealed, within its budget."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.cli.recipes import recipe_text
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.testing import FakeLLMServer, Latency

from ..kit.support import PATIENCE_SECONDS, lines
from .kit import tasks_of

CAP = 1_000_000
OUTPUT = Path("self_instruct.jsonl")


def answer(messages: Sequence[Mapping[str, Any]]) -> Any:
    asked = messages[-1]["content"]
    return tasks_of(asked) if "Write four new tasks" in asked else "Done."


@pytest.mark.slow
def test_exactly_200_rows_come_of_a_run_that_is_killed_five_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(recipe_text("self_instruct"))
    assert f"budget: &cap {{tokens: {CAP}}}" in recipe_text("self_instruct")
    command = [sys.executable, "-m", "llm_datagen.cli", "run", "mine.yaml", "--if-exists", "resume"]
    with FakeLLMServer(answer=answer, latency=Latency(seconds=0.02)) as server:
        environment = os.environ | {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"}
        for kill in range(1, 6):
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                wait_for_rows(30 * kill, process)
                process.send_signal(signal.SIGKILL)
                process.communicate()
                assert process.returncode == -signal.SIGKILL
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        used = server.tokens
    rows = lines(OUTPUT)
    assert len(rows) == len({row["task"] for row in rows}) == len({row["_i"] for row in rows}) == 200
    assert Path(f"{OUTPUT}.done").exists()
    spent = int(re.findall(r"([\d,]+) tokens spent", done.stdout)[0].replace(",", ""))
    assert used <= spent <= CAP
    run_state = RunFolder(Path("tmp/results"), "self_instruct").load()
    assert run_state["status"] == "completed"
    assert [finding for account in verify(run_state) for finding in account.findings] == []


def wait_for_rows(count: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the output has so many rows."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not OUTPUT.exists() or OUTPUT.read_bytes().count(b"\n") < count:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
