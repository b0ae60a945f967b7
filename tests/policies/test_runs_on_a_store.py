"""Runs whose state is kept on an object store: `results_dir="s3://bucket/runs"`."""

from __future__ import annotations

from typing import Any

from llm_datagen.cli.run_view import all_runs, read_run
from llm_datagen.runs import RunFolder

from ..kit.support import Bench, lines, numbered


def same(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row."""
    return row


def test_a_run_is_kept_on_a_store_and_nothing_of_it_on_the_machine(bench: Bench, bucket: str) -> None:
    bench.give(numbered(20))
    results = f"{bucket}/runs"
    pipeline = bench.pipeline([same], results_dir=results).create("a")
    report = pipeline.run()

    assert (report.status, len(lines(bench.output))) == ("completed", 20)
    run = read_run(RunFolder(results, "a"))
    assert (run.status, run.is_live, run.state["nodes"][0]["rows_out"]) == ("completed", False, 20)
    assert [run.pipeline_id for run in all_runs(results)] == ["a"]
    assert bench.files() == {"in.jsonl", "out.jsonl", "out.jsonl.done", "platform.log"}
