"""The real model: its server, and the whole demo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from rich.console import Console

from llm_datagen import DefaultPipelineHooks, PipelineExistsError, Status
from llm_datagen.cli.demo.job import DemoFiles, run_demo
from llm_datagen.cli.demo.operators import ANSWER_SCHEMA
from llm_datagen.cli.demo.server import local_server
from llm_datagen.llm.answers.json_schema import JsonSchema
from llm_datagen.llm.engines.embedded import MODEL
from llm_datagen.llm.engines.embedded.errors import LocalModelError

pytestmark = pytest.mark.model


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Look again until `condition` holds: what happens in another process can only be looked at."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def servers() -> list[psutil.Process]:
    """Return the servers that this process has started and not ended."""
    return [child for child in psutil.Process().children() if "server_process.py" in " ".join(child.cmdline())]


def workers() -> list[psutil.Process]:
    """Return the workers that have the model loaded, and have not been ended."""
    return [child for child in psutil.Process().children() if "engines.serving" in " ".join(child.cmdline())]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.slow
def test_the_server_answers_who_has_the_key_and_is_gone_after_the_block(weights: Path) -> None:
    with local_server(weights) as server, httpx.Client(trust_env=False, timeout=60) as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
        url = f"{server.base_url}/chat/completions"
        assert client.post(url, json=body).status_code == 401
        answer = client.post(url, json=body, headers={"Authorization": f"Bearer {server.api_key}"})
        assert answer.status_code == 200
        assert answer.json()["choices"][0]["message"]["content"]
        assert server.base_url.startswith("http://127.0.0.1:")
        process = psutil.Process(server.pid)
        assert server.api_key not in " ".join(process.cmdline()) + repr(process.environ()) + repr(server)
        if os.name == "posix":
            os.kill(server.pid, signal.SIGINT)  # Ctrl+C is not for the server
            assert client.get(f"{server.base_url.removesuffix('/v1')}/health").status_code == 200
    assert not process.is_running()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_the_server_dies_with_its_parent_even_by_sigkill(weights: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom llm_datagen.cli.demo.server import local_server\n"
        f"with local_server(Path({str(weights)!r})) as server:\n    print(server.pid, flush=True)\n    time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_file_that_is_no_model_is_an_error_with_what_the_server_said(tmp_path: Path, weights: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(LocalModelError, match="did not start: its process ended"), local_server(tmp_path / "bad.gguf"):
        pass
    assert servers() == []


@pytest.mark.slow
def test_a_server_that_is_not_up_in_time_is_an_error_and_ended(weights: Path) -> None:
    with pytest.raises(LocalModelError, match="was not up in time"), local_server(weights, start_timeout=0.001):
        pass
    assert servers() == []


def asked_of(files: DemoFiles) -> Path:
    """Return where the answers of the first stage are."""
    return files.between / "demo" / "node_1.jsonl"


def keeps_to_its_schema(row: dict[str, Any]) -> bool:
    answer = {"question": row["question"], "answer": row["answer"]}
    return JsonSchema(ANSWER_SCHEMA).violation(answer) is None


@pytest.mark.slow
def test_the_demo_is_run_once_and_then_shown(tmp_path: Path, weights: Path) -> None:
    files = DemoFiles(tmp_path / "[demo]")
    said = StringIO()
    report = run_demo(files.out_dir, rows=1, parallel=2, console=Console(file=said, width=200))
    assert report is not None
    assert report.status is Status.COMPLETED
    asked = asked_of(files)
    rows = rows_of(asked)
    assert sorted(row["_i"] for row in rows) == [0]
    assert all(keeps_to_its_schema(row) for row in rows)
    assert f"1 definitions in, {len(rows_of(files.questions))} questions kept by the judge" in said.getvalue()

    # A run that has ended is shown, and nothing is asked again.
    again = StringIO()
    assert run_demo(files.out_dir, console=Console(file=again, width=200)) is None
    assert "has ended before: nothing to do" in again.getvalue()
    assert "To start afresh: remove" in again.getvalue()
    assert rows_of(asked) == rows

    # Another id in the same directory is refused, and changes nothing.
    before = files.definitions.read_bytes(), files.questions.read_bytes()
    with pytest.raises(PipelineExistsError, match=r"questions\.jsonl, is there already"):
        run_demo(files.out_dir, pipeline_id="other", rows=1, console=Console(file=StringIO()))
    assert (files.definitions.read_bytes(), files.questions.read_bytes()) == before


class Progress(DefaultPipelineHooks):
    """What the hooks were told."""

    def __init__(self) -> None:
        self.curr: dict[str, int] = {}

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Any) -> None:
        self.curr[nid] = curr


@pytest.mark.skipif(os.name != "posix", reason="SIGINT")
@pytest.mark.slow
def test_the_demo_is_stopped_by_ctrl_c_and_resumed_and_no_call_is_lost(tmp_path: Path, weights: Path) -> None:
    files = DemoFiles(tmp_path / "[demo]")
    asked = asked_of(files)
    script = f"from llm_datagen.cli.demo.job import run_demo\nrun_demo({str(files.out_dir)!r}, rows=5, parallel=2)"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        assert wait_for(lambda: asked.exists() and asked.read_bytes().count(b"\n") >= 1)
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=60)
    assert "Stopped; everything finished is saved. To go on: run the demo again" in out
    assert "KeyboardInterrupt" in err
    saved = rows_of(asked)
    assert 1 <= len(saved) < 5

    said, hooks = StringIO(), Progress()
    report = run_demo(files.out_dir, hooks=hooks, console=Console(file=said, width=200))
    assert report is not None
    assert report.status is Status.COMPLETED
    assert (hooks.curr["node_1"], hooks.curr["node_2"]) == (5, 5)

    rows = rows_of(asked)
    assert rows[: len(saved)] == saved
    assert sorted(row["_i"] for row in rows) == list(range(5))
    assert all(keeps_to_its_schema(row) for row in rows)
    kept = rows_of(files.questions)
    assert 1 <= len(kept) <= 5
    assert f"5 definitions in, {len(kept)} questions kept by the judge: {files.questions}" in said.getvalue()
    assert kept[0]["question"] in said.getvalue()

    assert workers() == []
