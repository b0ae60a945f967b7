"""Outputs that a run makes of its last stream when that is sealed: before it says that it is completed, and once."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llm_datagen import ConfigError, NodeFailedError, PipelineExistsError, StreamExistsError, UnifiedPipeline
from llm_datagen.cli.run_table import list_table
from llm_datagen.cli.run_view import list_lines, run_lines
from llm_datagen.runs import RunFolder
from llm_datagen.runs.exports import forget_made, verify_exports
from llm_datagen.shards.run_view import RunView, read_run
from llm_datagen.streams.outputs import Work, export_rows
from llm_datagen.streams.outputs.source_rows import SourceRows
from llm_datagen.testing import Fault, inject

from ..kit.support import eventually, lines, numbered, write_jsonl


def double(row: Any) -> Any:
    return {**row, "twice": 2 * row["n"], "odd": "x" if row["n"] == 7 else row["n"]}


def pipeline(folder: Path, output: str, **settings: Any) -> UnifiedPipeline:
    write_jsonl(folder / "in.jsonl", numbered(20))
    return UnifiedPipeline(
        [double],
        str(folder / "in.jsonl"),
        output,
        base_path=folder / "between",
        results_dir=folder / "results",
        log_file=None,
        **settings,
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(BytesIO(path.read_bytes())).to_pylist())


def test_an_output_in_parquet_is_made_of_a_stream_below_base_path(tmp_path: Path) -> None:
    run = pipeline(tmp_path, str(tmp_path / "out.parquet"), keep_ids=False).create("job")
    report = run.run(progress=False)

    rows = rows_of(tmp_path / "out.parquet")
    assert [(row["n"], row["twice"]) for row in rows] == [(n, 2 * n) for n in range(20) if n != 7]
    assert report.status == "completed"
    state = RunFolder(tmp_path / "results", "job").load()
    assert [(export["rows"], export["failed"], export["parts"]) for export in state["exports"]] == [(19, 1, 1)]
    assert len(lines(tmp_path / "between" / "job" / "output.jsonl")) == 20
    assert [line["column"] for line in lines(tmp_path / "out.parquet.errors.jsonl")] == ["odd"]
    assert verify_exports(state) == []


def test_parquet_in_is_parquet_out_with_the_same_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    moments = pa.array([0, None, 1704164645123456789], pa.timestamp("ns", "Europe/Berlin"))
    table = pa.table({"t": moments, "b": [b"\0", b"", None], "l": pa.array([[1], [], None], pa.list_(pa.date32()))})
    pq.write_table(table, "in.parquet")
    options = {"schema": "in.parquet", "keep_ids": False}
    run = UnifiedPipeline([same], "in.parquet", "out.parquet", export_options=options, results_dir="r", log_file=None)
    assert run.create("job").run(progress=False).status == "completed"
    assert pq.read_table("out.parquet").equals(table)


def same(row: Any) -> Any:
    return row


@pytest.mark.parametrize(
    ("output", "schema", "said"),
    [
        ("out.parquet", "raw/nosuch.parquet", "schema: .*/raw/nosuch.parquet does not exist; give the path of"),
        ("out.parquet", "in.jsonl", "schema: .*/in.jsonl cannot be read as Parquet or Arrow"),
        ("out.csv", "raw/nosuch.parquet", "schema: .*/raw/nosuch.parquet does not exist"),
        ("out.parquet", {"n": "timestmap[us]"}, r"schema: column 'n': 'timestmap\[us\]' is no type"),
        ("out-{shrad:05}.parquet", None, r"only \{shard\} has a number of digits; write \{shard:05\}, or \{shrad\}"),
        ("out-{shrad:05}.jsonl", None, r"only \{shard\} has a number of digits"),
    ],
)
def test_what_would_fail_when_all_rows_are_done_is_refused_by_create(
    tmp_path: Path, output: str, schema: Any, said: str
) -> None:
    (tmp_path / "raw").mkdir()
    given = str(tmp_path / schema) if isinstance(schema, str) else schema
    options = {"export_options": {"schema": given}} if schema else {}
    ways: list[tuple[str, dict[str, Any]]] = [(f"{tmp_path}/rows.jsonl", {"also": [f"{tmp_path}/{output}"]})]
    if not output.endswith(".csv"):
        ways.append((f"{tmp_path}/{output}", {}))
    for uri, also in ways:
        with pytest.raises(ConfigError, match=said):
            pipeline(tmp_path, uri, **also, **options).create("job")
        with pytest.raises(ConfigError, match=said):
            pipeline(tmp_path, uri, **also, **options).to_try(tmp_path / "tried")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "results") == ["in.jsonl", "raw"]


def test_further_outputs_are_made_beside_a_usual_one(tmp_path: Path) -> None:
    csv = {"to": f"{tmp_path}/out.csv.gz", "keep_ids": False}
    also = [f"parquet:{tmp_path}/p/out-{{shard}}.parquet", csv]
    with pytest.raises(ConfigError, match=r"write out-\{shard:05\}.csv.gz"):
        pipeline(tmp_path, str(tmp_path / "out.jsonl"), also=[{**csv, "rows_per_shard": 8}])

    run = pipeline(tmp_path, str(tmp_path / "out.jsonl"), also=also, export_options={"rows_per_shard": 8})
    run.create("job").run(progress=False)
    assert [len(rows_of(path)) for path in sorted((tmp_path / "p").glob("*.parquet"))] == [8 - 1, 8, 4]
    assert len(lines(tmp_path / "out.jsonl")) == 20
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).startswith(b"n,twice,odd\n0,0,0\n")


def test_a_column_in_the_name_of_an_output_parts_it_also_without_shards(tmp_path: Path) -> None:
    """It was the name of a folder, with the braces, and all rows lay in it."""
    report = pipeline(tmp_path, str(tmp_path / "{odd}" / "out.jsonl")).create("job").run(progress=False)
    assert report.status == "completed"
    assert [len(lines(tmp_path / str(n) / "out.jsonl")) for n in range(20) if n != 7] == [1] * 19
    assert lines(tmp_path / "x" / "out.jsonl") == [{"n": 7, "twice": 14, "odd": "x", "_i": 7}]
    assert not (tmp_path / "{odd}").exists()
    with pytest.raises(ConfigError, match="names nothing; write"):
        pipeline(tmp_path, str(tmp_path / "{}.jsonl"))


def test_a_run_that_was_cut_short_in_an_export_makes_it_when_it_is_resumed(tmp_path: Path) -> None:
    target = tmp_path / "p" / "out-{shard}.jsonl"
    run = pipeline(tmp_path, str(target), export_options={"rows_per_shard": 8}).create("job")
    fault = Fault(operation="rename", path="*/out-1.jsonl", action="raise", error="ENOSPC")
    with inject(fault), pytest.raises(NodeFailedError, match="make room, then resume"):
        run.run(progress=False)
    assert RunFolder(tmp_path / "results", "job").load()["status"] == "failed"
    assert sorted(path.name for path in (tmp_path / "p").iterdir() if path.is_file()) == ["out-0.jsonl"]

    report = run.resume("job").run(progress=False)
    assert report.status == "completed"
    made = {path.name: path.stat().st_mtime_ns for path in sorted((tmp_path / "p").iterdir())}
    assert list(made) == [".out.jsonl.manifest", "_SUCCESS", "out-0.jsonl", "out-1.jsonl", "out-2.jsonl"]
    assert run.resume("job").run(progress=False).status == "completed"
    assert {path.name: path.stat().st_mtime_ns for path in sorted((tmp_path / "p").iterdir())} == made


def test_what_is_in_the_place_of_an_export_is_refused_and_what_the_run_made_is_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    output.write_text("mine")
    with pytest.raises(StreamExistsError, match="no export made it"):
        pipeline(tmp_path, str(output)).create("job")
    with pytest.raises(StreamExistsError, match="no export made it"):
        pipeline(tmp_path, str(output)).create("job", if_exists="overwrite")
    assert output.read_text() == "mine"
    output.unlink()

    pipeline(tmp_path, str(output)).create("job").run(progress=False)
    with pytest.raises(StreamExistsError, match="was made by the run 'job' already"):
        pipeline(tmp_path, str(output)).create("other")
    with pytest.raises(PipelineExistsError):
        pipeline(tmp_path, str(output)).create("job")
    pipeline(tmp_path, str(output), keep_ids=False).create("job", if_exists="overwrite").run(progress=False)
    assert "_i" not in rows_of(output)[0]


def test_an_export_that_is_a_stream_of_the_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is the output of node_0 in the same run"):
        pipeline(tmp_path, str(tmp_path / "out.jsonl"), also=[str(tmp_path / "out.jsonl")]).create("job")
    with pytest.raises(ConfigError, match="known are parquet"):
        pipeline(tmp_path, str(tmp_path / "out.jsonl"), also=["xlsx://out"])
    with pytest.raises(ConfigError, match="'rows' is no option"):
        pipeline(tmp_path, str(tmp_path / "out.jsonl"), export_options={"rows": 5})


def test_a_part_that_is_gone_is_found_by_verify(tmp_path: Path) -> None:
    pipeline(tmp_path, str(tmp_path / "out.parquet")).create("job").run(progress=False)
    (tmp_path / "out.parquet").unlink()

    assert verify_exports(RunFolder(tmp_path / "results", "job").load()) == [f"{tmp_path}/out.parquet is gone"]


def triple(row: Any) -> Any:
    return {**row, "thrice": 3 * row["n"]}


def test_a_step_that_is_added_on_a_resume_changes_what_is_exported(tmp_path: Path) -> None:
    output = f"hf-folder:{tmp_path}/set"
    pipeline(tmp_path, output, keep_ids=False).create("job").run(progress=False)
    longer = pipeline(tmp_path, output, keep_ids=False)
    longer = UnifiedPipeline(**{**longer.given, "operators": [double, triple]})
    longer.resume("job", on_change="rerun").run(progress=False)

    import pyarrow as pa

    table = pa.ipc.open_stream((tmp_path / "set" / "data-00000.arrow").read_bytes()).read_all()
    assert table.column_names == ["n", "twice", "odd", "thrice"]
    assert [node.node_id for node in longer.nodes] == ["node_0", "node_1"]


def test_a_node_writes_no_export(tmp_path: Path) -> None:
    made = pipeline(tmp_path, str(tmp_path / "out.jsonl"))
    with pytest.raises(
        ConfigError, match=r"node_0: '.*x\.parquet' is made from a finished stream.*give it to the pipeline"
    ):
        made.create("a", node_configs=[{"output_uri": f"{tmp_path}/x.parquet"}])


class Stopper:
    """Cancels a run when so many parts of its exports are there, and waits until the export has heard of it."""

    def __init__(self, run: UnifiedPipeline, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts = 0
        made, note, read = export_rows, Work.note_window, SourceRows.read
        asked: list[Callable[[], bool]] = []

        def counted(*args: Any, stopped: Callable[[], bool], **named: Any) -> Any:
            asked.append(stopped)
            return made(*args, stopped=stopped, **named)

        def note_window(work: Work, number: int, window: Any) -> None:
            note(work, number, window)
            self.parts += 1
            if self.parts == after:
                cancel()

        def cancel() -> None:
            run.cancel("enough")
            eventually(asked[-1], "the export hears of it")

        def read_columns(*args: Any, **named: Any) -> Any:
            if not after:
                cancel()
            return read(*args, **named)

        monkeypatch.setattr("llm_datagen.runs.exports.export_rows", counted)
        monkeypatch.setattr(Work, "note_window", note_window)
        monkeypatch.setattr(SourceRows, "read", read_columns)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_cancel_in_an_export_is_heard_and_a_resume_goes_on_with_its_parts(
    tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heard in the pass for the columns (after no part), and between parts, however small they are."""
    target = tmp_path / "p" / "out-{shard}.csv"
    run = pipeline(tmp_path, str(target), export_options={"rows_per_shard": 5}, also=[f"csv:{tmp_path}/whole.csv"])
    run.create("job")
    with monkeypatch.context() as patch:
        stopper = Stopper(run, after, patch)
        report = run.run(progress=False)
    assert (report.status, report.reason, stopper.parts) == ("canceled", "enough", after)
    found = {path: path.stat().st_ino for path in (tmp_path / "p").glob("out-*.csv")}
    assert len(found) == after
    folder = RunFolder(tmp_path / "results", "job")
    assert [export.get("rows") for export in folder.load()["exports"]] == [None, None]
    shown = run_lines(read_run(folder))
    assert f"export {target} (csv): {'half made: a resume goes on with it' if after else 'not made yet'}" in shown
    assert f"export {tmp_path}/whole.csv (csv): not made yet" in shown
    assert "0/2 exports" in list_lines([read_run(folder)])[0]

    assert run.resume("job").run(progress=False).status == "completed"
    parts = sorted((tmp_path / "p").glob("out-*.csv"))
    assert {path: path.stat().st_ino for path in parts if path in found} == found, "what is there is not made again"
    rows = [line for path in parts for line in path.read_text().splitlines()[1:]]
    assert rows == (tmp_path / "whole.csv").read_text().splitlines()[1:]
    assert len(rows) == 20
    shown = run_lines(read_run(folder))
    assert f"export {target} (csv): 20 rows in 4 files" in shown
    assert f"export {tmp_path}/whole.csv (csv): 20 rows" in shown
    assert "2/2 exports" in list_lines([read_run(folder)])[0]


def test_status_says_which_export_is_being_made_and_a_table_of_runs_counts_them(tmp_path: Path) -> None:
    run = pipeline(tmp_path, str(tmp_path / "out.jsonl"), also=[f"csv:{tmp_path}/a.csv", f"csv:{tmp_path}/b.csv"])
    run.create("job").run(progress=False)
    state = RunFolder(tmp_path / "results", "job").load()
    forget_made(state)
    live = RunView(pipeline_id="job", results_dir=str(tmp_path), status="running", state=state, is_live=True)
    shown = run_lines(live)
    assert f"export {tmp_path}/a.csv (csv): being made" in shown
    assert f"export {tmp_path}/b.csv (csv): not made yet" in shown
    killed = {**state, "status": "running", "usage_is_partial": True}
    told = "usage and cost are at least these: the last usage before a kill is missing"
    assert told not in run_lines(replace(live, status="interrupted", state=killed, is_live=False)), "it has no usage"
    killed["nodes"] = [{**node, "usage": [{"model": "m", "total_tokens": 3}]} for node in state["nodes"]]
    assert told in run_lines(replace(live, status="interrupted", state=killed, is_live=False))
    console = Console(width=100, file=io.StringIO())
    with console.capture() as captured:
        console.print(list_table([live]))
    heading, line = map(str.split, captured.get().splitlines())
    assert heading == ["id", "status", "in", "out", "errors", "exports", "updated"]
    assert line[:6] == ["job", "running", "20/20", "20", "0", "0/2"]
    assert live.brief()["exports"][0] == {
        "kind": "csv", "path": f"{tmp_path}/a.csv", "rows": None, "failed": None, "parts": None
    }  # fmt: skip
