"""The report of a run in Python: its rows, read while they are asked for, as tables, and as a notebook shows it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from llm_datagen import ConfigError, MemoryStream, RunReport, Status, UnifiedNode, UnifiedNodePipeline
from llm_datagen.errors import RowValueError, StreamError
from llm_datagen.shards.pipeline import ShardedPipeline

from ..kit.shards import InThreads
from ..kit.support import Bench, Stopping, numbered

ROWS = [{"n": 1, "double": 2}, {"n": 3, "double": 6}, {"n": 5, "double": 10}]


def odd(row: dict[str, Any]) -> dict[str, Any] | None:
    """Keep odd rows."""
    return row if row["n"] % 2 else None


def double(row: dict[str, Any]) -> dict[str, Any]:
    """Double a number."""
    return {**row, "double": 2 * int(row["n"])}


def run(bench: Bench, count: int = 6, **settings: Any) -> RunReport:
    """Run a line of two nodes."""
    bench.give(numbered(count))
    return bench.pipeline([odd, double], ordered=True, **settings).create("a").run()


def test_rows_come_one_after_the_other(bench: Bench) -> None:
    report = run(bench)
    rows = report.rows()
    assert isinstance(rows, Iterator)
    assert next(rows) == ROWS[0]
    assert list(rows) == ROWS[1:]
    assert list(report.rows(ids=True)) == [{"_i": row["n"], **row} for row in ROWS]
    assert list(report.rows("node_0")) == [{"n": 1}, {"n": 3}, {"n": 5}]
    with pytest.raises(ConfigError, match="node='nod_0': the run has no such node; did you mean 'node_0'"):
        report.rows("nod_0")


@pytest.mark.parametrize(
    "settings",
    [
        {"keep_ids": False},
        {"output_uri": "out.parquet"},
        {"also": ["more.parquet"]},
        {"keep_ids": False, "id_column": None},
    ],
    ids=["without ids", "a Parquet file", "an export beside it", "without ids, all at once"],
)
def test_rows_of_outputs_of_any_kind(bench: Bench, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    monkeypatch.chdir(bench.folder)
    report = run(bench, **settings)
    monkeypatch.chdir("/")  # relative paths are those of the run
    assert list(report.rows()) == ROWS
    assert [row["_i"] for row in report.rows(ids=True)] == [1, 3, 5]


def test_rows_of_csv_are_as_csv_has_them(bench: Bench) -> None:
    report = run(bench, output_uri=f"csv://{bench.folder}/out.csv")
    assert list(report.rows()) == [{"n": str(row["n"]), "double": str(row["double"])} for row in ROWS]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("merge", ["shards", "concat"])
def test_rows_of_a_run_in_shards_are_those_of_all_in_order(bench: Bench, merge: Any) -> None:
    bench.give(numbered(60))
    pipeline = bench.pipeline([odd, double], ordered=True)
    report = ShardedPipeline(pipeline, shards=4, merge=merge, executor=InThreads()).create("a").run()
    assert [row["n"] for row in report.rows()] == list(range(1, 60, 2))
    assert [row["n"] for row in report.rows("node_0")] == list(range(1, 60, 2))
    assert len(report.to_pandas()) == 30


def test_rows_that_are_no_objects(bench: Bench) -> None:
    bench.give([1, "two", None, [4]])
    report = bench.pipeline([lambda value: value and [[value]]], ordered=True).create("a").run()
    values: list[Any] = list(report.rows())
    assert [row.get("data") if isinstance(row, dict) else row for row in report.rows(ids=True)] == values
    assert list(report.to_pandas()["data"]) == values


def test_a_run_that_was_stopped_has_the_rows_that_are_committed(bench: Bench) -> None:
    bench.give(numbered(5))
    report = bench.pipeline([Stopping(3)], ordered=True).create("a").run()
    assert report.status == "stopped"
    assert [row["n"] for row in report.rows()] == [0, 1, 2]


def test_paths_are_those_of_the_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench.folder)
    (bench.folder / "gone").mkdir()

    def goes(row: dict[str, Any]) -> dict[str, Any]:
        os.chdir(bench.folder / "gone")
        if row["n"] == 2:
            (bench.folder / "gone").rmdir()
        return row

    bench.give(numbered(3))
    report = bench.pipeline([goes], output_uri="out.jsonl", ordered=True, parallel_size=1).create("a").run()
    assert [row["n"] for row in report.rows()] == [0, 1, 2]


def test_a_graph_with_several_outputs_asks_which(bench: Bench) -> None:
    bench.give(numbered(4))
    nodes = []
    for name, operator in (("odd", odd), ("double", double)):
        node = UnifiedNode(name, follow_input=False, log_file=None).bind_io(
            f"jsonl://{bench.input}", f"jsonl://{bench.folder}/{name}.jsonl"
        )
        nodes.append(node.set_operator(operator))
    report = UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None).create("a").run()
    with pytest.raises(ConfigError, match="run 'a' has several outputs: odd, double; say which one"):
        report.rows()
    assert list(report.rows("odd")) == [{"n": 1}, {"n": 3}]


def test_rows_in_memory_and_rows_that_are_gone(bench: Bench) -> None:
    report = run(bench, output_uri="memory://report-rows")
    assert list(report.rows()) == ROWS
    MemoryStream("memory://report-rows").delete()
    report = bench.pipeline([odd]).create("b").run()
    bench.output.unlink()
    with pytest.raises(StreamError, match="is gone, though rows of it were committed; restore it"):
        report.rows()


def test_a_report_without_a_run_state_says_where_the_rows_are(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"read the node's output stream, StreamFactory.create\(uri\)"):
        RunReport(pipeline_id="", status=Status.COMPLETED).rows()


def test_tables_have_the_rows(bench: Bench) -> None:
    report = run(bench)
    arrow = report.to_arrow(ids=True)
    assert arrow.to_pylist() == [{"_i": row["n"], **row} for row in ROWS]
    assert [str(field.type) for field in arrow.schema] == ["int64", "int64", "int64"]
    assert report.to_pandas().to_dict("records") == ROWS
    assert report.to_polars().to_dicts() == ROWS
    assert report.to_pandas("node_0").columns.tolist() == ["n"]


def test_columns_of_mixed_types_are_not_changed(bench: Bench) -> None:
    bench.give([{"a": 1}, {"a": "one"}, {"a": None, "b": [1.5]}])
    report = bench.pipeline([lambda row: row], ordered=True).create("a").run()
    assert list(report.to_pandas()["a"]) == [1, "one", None]
    for table in (report.to_arrow, report.to_polars):
        with pytest.raises(RowValueError, match=r"column 'a'.*rows\(\) and to_pandas\(\) take columns of mixed types"):
            table()


@pytest.mark.parametrize(
    ("library", "method", "said"),
    [
        ("pandas", "to_pandas", r"to_pandas\(\) needs pandas: pip install pandas"),
        ("polars", "to_polars", r"to_polars\(\) needs polars: pip install polars"),
        ("pyarrow", "to_arrow", r"need pyarrow: pip install 'llm-datagen\[parquet\]'"),
    ],
)
def test_a_library_that_is_missing_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, library: str, method: str, said: str
) -> None:
    report = run(bench)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=said):
        getattr(report, method)()


def test_a_notebook_shows_the_table_and_charts(bench: Bench) -> None:
    def costly(row: dict[str, Any], ctx: Any) -> dict[str, Any]:
        ctx.report_usage({"provider": "p", "model": "m", "cost": 0.5})
        return row

    bench.give(numbered(3))
    report = bench.pipeline([costly]).create("a").run()
    path = bench.results / "a" / "timeline.jsonl"
    path.write_text(
        '{"t":"2026-01-01T00:00:00+00:00","cost":0.0,"nodes":{"node_0":[0,0,0]}}\n'
        '{"t":"2026-01-01T00:01:00+00:00","cost":1.5,"nodes":{"node_0":[3,3,0]}}\n'
    )
    shown = report._repr_html_()
    assert "<td>node_0</td><td>completed</td>" in shown
    assert re.findall(r"<b>([^<]+)</b>", shown) == ["Rows per second", "Cost"]
    assert shown.count("<svg ") == 2
    assert "<script" not in shown
    path.unlink()
    assert "<svg " not in report._repr_html_()
