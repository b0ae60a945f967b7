"""Runs of other kinds: in shards, of an earlier version of llm-datagen, with many rows, with a budget."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.runs import RunFolder

from ..cli.shell import Shell
from ..kit.s3 import S3Bucket
from ..kit.shards import in_shards
from ..kit.support import Bench, eventually, numbered
from ..kit.web import serving
from ..recovery.test_stored import left
from .test_rows import fails


def test_a_run_in_shards_is_one_run(bench: Bench) -> None:
    bench.give(numbered(40))
    in_shards(bench.pipeline([fails], on_error="dead_letter")).create("a").run(progress=False)
    with serving(bench.results) as client:
        (summary,) = client.get("/api/runs")["runs"]
        assert (summary["status"], summary["rows_done"], summary["rows_total"], summary["failed"]) == (
            "completed", 40, 40, 4,
        )  # fmt: skip
        assert summary["shards"] == {"count": 4, "completed": 4, "running": 0}
        run = client.get("/api/runs/0.a")
        assert sum(shard["rows_in"] for shard in run["shards"]["each"]) == 40
        assert [(node["node_id"], node["rows_in"], node["rows_out"]) for node in run["nodes"]] == [("node_0", 40, 36)]
        page = client.get("/api/runs/0.a/rows?stream=node_0:rows&from=30&limit=100")
        assert ([row["item"]["n"] for row in page["rows"]], page["total"]) == ([34, 35, 36, 37, 38, 39], 36)
        assert client.get("/api/runs/0.a/failures")["total"] == 4
        members = client.get("/api/runs/0.a/trace?id=35")["members"]
        assert [(one["stream"], one["item"]) for one in members] == [("input:0", {"n": 35}), ("node_0:rows", {"n": 35})]
        assert client.get("/api/runs/0.a/log")["lines"][-1]["event"] == "[Run Ended]"


def test_what_an_earlier_version_left_is_shown(tmp_path: Path) -> None:
    folder = left(tmp_path)
    with serving(folder / "runs") as client:
        runs = {run["id"]: run for run in client.get("/api/runs")["runs"]}
        assert {run["status"] for run in runs.values()} == {"interrupted"}
        for run in runs.values():
            page = client.get(f"/api/runs/{run['run']}")
            assert page["rows_done"] == page["nodes"][0]["rows_in"] > 0
            assert {node["status"] for node in page["nodes"]} <= {"interrupted", "pending", "completed"}
            for end in ("timeline", "cost", "log", "failures"):
                assert client.ask(f"/api/runs/{run['run']}/{end}").status in {200, 409}
            assert client.get(f"/api/runs/{run['run']}/timeline") == {"points": []}


@pytest.mark.slow
def test_pages_of_many_rows_take_no_memory(bench: Bench) -> None:
    """A page of the end of a large stream, a search through it, and listening: no list of all rows is made."""
    bench.give(numbered(3))
    bench.pipeline([lambda item: item]).create("a").run(progress=False)
    with bench.input.open("a") as file:
        file.writelines(f'{{"n": {n}, "text": "{"x" * 200}"}}\n' for n in range(3, 60_000))
    assert bench.input.stat().st_size > 12_000_000
    with serving(bench.results) as client, client.events() as events:
        next(events)
        rows = "/api/runs/0.a/rows?stream=input:0"
        client.get(f"{rows}&limit=1")
        tracemalloc.start()
        try:
            for number in (59_990, 30_000, 0):
                assert client.get(f"{rows}&from={number}&limit=5")["rows"][0]["item"]["n"] == number
            at: Any = 0
            while at is not None:
                at = client.get(f"{rows}&from={at}&q=no%20such%20text")["next"]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 6_000_000


@pytest.mark.process
@pytest.mark.slow
def test_a_run_goes_on_with_another_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, and after its budget has stopped it: the process ends, and another one goes on."""
    from llm_datagen.testing import FakeLLMServer

    monkeypatch.chdir(tmp_path)
    shell = Shell(tmp_path)
    with contextlib.ExitStack() as stack:
        llm = stack.enter_context(FakeLLMServer(answer="yes"))
        monkeypatch.setenv("OPENAI_BASE_URL", llm.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        asks = {
            "use": "llm_datagen.llm:LLMOperator",
            "with": {
                "model": "m", "prompt": "{{ n }}", "params": {"max_tokens": 5}, "budget": {"usd": 1000},
                "prices": {"input": 1, "output": 1},
            },
        }  # fmt: skip
        started = stack.enter_context(shell.started("run", shell.yaml(["ops:Gate", asks]), "--id", "a"))
        client = stack.enter_context(serving(tmp_path / "tmp/results"))
        shell.reach()
        assert client.get("/api/runs/0.a")["budget"]["cap"] == 1000
        answer = client.post("/api/runs/0.a/commands", {"command": "budget", "usd": 0.00001})
        assert answer.json["said"].startswith(
            "run a: a run takes no other budget while it runs, so it was cancelled (what was done is kept), and "
            "resumed with a budget of $0.000010. resume: process "
        )
        assert started.wait() == 1  # it was cancelled
        shell.open_gate()
        eventually(lambda: client.get("/api/runs/0.a")["status"] == "stopped", "the small budget has stopped it")
        assert "the budget of $0.000010 is reached" in client.get("/api/runs/0.a")["reason"]
        eventually(lambda: not RunFolder("tmp/results", "a").lock.is_held())
        said = client.post("/api/runs/0.a/commands", {"command": "budget", "usd": 5}).json["said"]
        assert "with a budget of $5.00" in said
        eventually(lambda: client.get("/api/runs/0.a")["status"] == "completed", "it is completed")
    assert len(shell.rows()) == 50


@pytest.mark.slow
def test_runs_on_a_store_are_shown(bench: Bench, s3: S3Bucket) -> None:
    bench.give(numbered(10))
    bench.pipeline([fails], on_error="dead_letter", results_dir=s3.uri("runs")).create("a").run(progress=False)
    with serving(s3.uri("runs"), bench.results) as client:
        (run,) = client.get("/api/runs")["runs"]
        assert (run["run"], run["folder"], run["status"]) == ("0.a", s3.uri("runs"), "completed")
        assert client.get("/api/runs/0.a")["nodes"][0]["rows_out"] == 9
        assert client.get("/api/runs/0.a/timeline") == {"points": []}
        assert [row["item"]["n"] for row in client.get("/api/runs/0.a/rows?stream=node_0:rows&from=8")["rows"]] == [9]
        assert client.get("/api/runs/0.a/failures")["total"] == 1
        assert client.get("/api/runs/0.a/trace?id=9")["members"][-1]["item"] == {"n": 9}
