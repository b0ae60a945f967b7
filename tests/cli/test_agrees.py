"""The page and the command line say the same of a run, to the row: they count by one model."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from llm_datagen.messages import Pause, Unpause
from llm_datagen.runs.limit import PAUSED

from ..kit.support import PATIENCE_SECONDS, Bench, eventually, numbered
from ..kit.web import serving
from .conftest import Command

NAMES = {"rows_in", "rows_out", "filtered", "failed", "total", "total_is_exact", "status"}


def counted(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: node[name] for name in NAMES} for node in nodes]


@pytest.mark.integration
def test_status_and_the_page_agree_to_the_row_while_it_is_paused_and_afterwards(bench: Bench, command: Command) -> None:
    bench.give(numbered(60))
    gate = threading.Event()

    def wait(row: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.003)  # slower than what is grouped, so that rows before the gate are committed
        if row["n"] == 30:
            assert gate.wait(PATIENCE_SECONDS)
        return row

    pipeline = bench.pipeline([wait, lambda row: row if row["n"] % 2 else None], streaming=True, batch_size=1)
    ref = pipeline.create("a").start()
    where = ("--results-dir", str(bench.results))
    with serving(bench.results) as client:

        def status_json() -> Any:
            return json.loads(command("status", "a", "--json", *where).stdout)

        def standing_still() -> tuple[Any, Any, list[str]] | None:
            """Return what both say, if it was paused already and nothing has moved meanwhile."""
            before, page = status_json(), client.get("/api/runs/0.a")
            told = command("status", "a", *where).stdout.splitlines()
            stood = before["bottleneck"] == PAUSED and counted(before["nodes"]) == counted(status_json()["nodes"])
            return (before, page, told) if stood else None

        eventually(lambda: status_json()["nodes"][1]["rows_in"] > 0)
        ref.ask(Pause(), timeout=PATIENCE_SECONDS)
        status, page, lines = eventually(standing_still, "what was in flight is committed")
        assert counted(status["nodes"]) == counted(page["nodes"])
        assert 0 < page["nodes"][1]["rows_in"] <= page["nodes"][0]["rows_in"] <= 30
        assert page["bottleneck"] == PAUSED
        assert status["eta_s"] is page["eta_s"] is None
        assert lines[0] == "run a: running, paused"
        assert [line.partition(" rows,")[0] for line in lines[1:3]] == [
            f"  {node['node_id']} {node['operator']}: running, {node['rows_in']}/"
            f"{'' if node['total_is_exact'] else '~'}{node['total']}"
            for node in page["nodes"]
        ]
        assert lines[3] == PAUSED
        gate.set()
        ref.ask(Unpause(), timeout=PATIENCE_SECONDS)
        assert pipeline.wait(PATIENCE_SECONDS).status == "completed"
        status, page = json.loads(command("status", "a", "--json", *where).stdout), client.get("/api/runs/0.a")
        assert counted(status["nodes"]) == counted(page["nodes"])
        assert [node["rows_per_second"] for node in status["nodes"]] == [
            node["rows_per_second"] for node in page["nodes"]
        ]
        assert all(node["rows_per_second"] > 0 for node in page["nodes"])
