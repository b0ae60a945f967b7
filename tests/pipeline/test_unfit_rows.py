"""Rows that do not fit an output are told: by the report, the hooks, the log, `export()` and `verify`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

import llm_datagen
from llm_datagen.cli.app import app
from llm_datagen.runs.hooks import DefaultPipelineHooks
from llm_datagen.runs.run_report import RunReport

from ..kit.shards import in_shards
from ..kit.support import Bench, lines

ROWS = [{"k": 0, "v": 1}, {"k": 1, "v": "a"}, {"k": 2, "v": 2}, {"k": 3, "v": "b"}]


def same(row: Any) -> Any:
    return row


class Listening(DefaultPipelineHooks):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_log(self, cid: str, nid: str, level: str, message: str) -> None:
        if level == "warning":
            self.heard.append(message)


def verified(bench: Bench, *options: str) -> str:
    done = CliRunner().invoke(app, ["verify", "a", "--results-dir", str(bench.results), *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def check(bench: Bench, report: RunReport, hooks: Listening) -> None:
    main, also = bench.folder / "out.parquet", bench.folder / "other.csv"
    counts = {each.path: (each.kind, each.rows, each.errors_path) for each in report.unfit}
    assert counts == {
        str(main): ("parquet", 2, f"{main}.errors.jsonl"),
        str(also): ("csv", 1, f"{also}.errors.jsonl"),
    }
    assert [len(lines(bench.folder / f"{name}.errors.jsonl")) for name in ("out.parquet", "other.csv")] == [2, 1]
    assert report.warnings == [
        f"2 rows do not fit {main}: see {main}.errors.jsonl, which names the column and why",
        f"1 row does not fit {also}: see {also}.errors.jsonl, which names the column and why",
    ]
    assert (report.status, report.rows_out, report.failed) == ("completed", 4, 0)
    assert [line["message"] for line in bench.log_lines() if line["event"] == "[Unfit Rows]"] == report.warnings
    assert hooks.heard == report.warnings


@pytest.mark.parametrize("is_in_shards", [False, True])
def test_rows_that_do_not_fit_an_output_are_told_wherever_the_run_is(bench: Bench, *, is_in_shards: bool) -> None:
    bench.give(ROWS)
    hooks = Listening()
    also = [{"to": str(bench.folder / "other.csv"), "nulls": "b"}]
    settings: dict[str, Any] = {"output_uri": str(bench.folder / "out.parquet"), "also": also, "hooks": hooks}
    pipeline = bench.pipeline([same], **settings)
    report = (in_shards(pipeline) if is_in_shards else pipeline).create("a").run(progress=False)
    check(bench, report, hooks)

    told = verified(bench)
    assert "run a (completed): no file is damaged; 2 outputs lack rows\n" in told
    assert f"  2 rows do not fit {bench.folder}/out.parquet: see " in told
    found = json.loads(verified(bench, "--json"))
    assert (found["findings"], [each["rows"] for each in found["unfit"]]) == (0, [2, 1])


def test_a_run_whose_rows_fit_warns_of_nothing(bench: Bench) -> None:
    bench.give(ROWS[::2])
    report = bench.pipeline([same], output_uri=str(bench.folder / "out.parquet")).create("a").run(progress=False)
    assert (list(report.unfit), report.warnings) == ([], [])
    assert "run a (completed): nothing is wrong\n" in verified(bench)


def test_an_export_warns_of_rows_that_do_not_fit(bench: Bench) -> None:
    bench.give(ROWS)
    bench.pipeline([same]).create("a").run(progress=False)
    made = llm_datagen.export("a", bench.folder / "x.parquet", results_dir=bench.results)
    assert made.failed == 2
    assert made.warnings == [
        f"2 rows do not fit {made.target.path}: see {made.errors_path}, which names the column and why"
    ]
    whole = llm_datagen.export("a", bench.folder / "y.parquet", results_dir=bench.results, mixed="json")
    assert (whole.rows, whole.warnings) == (4, [])
