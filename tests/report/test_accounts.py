"""The account of a node: each source row is exactly one of kept, filtered, failed or pending, by the streams alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline
from llm_datagen.cli.report import read_report
from llm_datagen.runs.report.model import RowAccount
from llm_datagen.shards.pipeline import ShardedPipeline

from ..kit.shards import InThreads
from ..kit.support import Bench, numbered


def twice(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row twice; nothing of every fifth."""
    return [] if row["n"] % 5 == 0 else [row, row]


def picky(row: dict[str, Any]) -> dict[str, Any]:
    """Refuse every seventh row."""
    if row["n"] % 7 == 0:
        raise ValueError(f"row {row['n']} is bad")
    return row


def line(bench: Bench, **settings: Any) -> UnifiedPipeline:
    """Return a pipeline of 70 rows: 14 are filtered, of 112 rows 16 fail."""
    bench.give(numbered(70))
    return bench.pipeline([twice, picky], on_error="dead_letter", streaming=True, **settings)


def account(**counts: Any) -> RowAccount:
    """Return a account that is known and complete, with nothing lost but what is said."""
    nothing = {"filtered": 0, "rejected": 0, "skipped": 0, "dead_letters": 0, "pending": 0}
    return RowAccount(**{**nothing, "is_sealed": True, "is_known": True, "findings": (), **counts})


def test_every_row_of_a_completed_run_is_accounted_for(bench: Bench) -> None:
    line(bench).create("a").run()
    report = read_report(str(bench.results), "a", rows=0)
    first, second = (node.account for node in report.nodes)
    assert first == account(source_rows=70, done=70, kept=56, filtered=14, rows_out=112)
    assert second == account(source_rows=112, done=112, kept=96, dead_letters=16, rows_out=96)
    for each in (first, second):
        assert each.done == each.kept + each.filtered + each.skipped + each.dead_letters
        assert each.source_rows == each.done + (each.pending or 0)
    assert report.totals == {
        "rows_in": 70,
        "rows_out": 96,
        "outputs": {},
        "filtered": 14,
        "failed": 16,
        "cost": None,
        "tokens": 0,
        "findings": 0,
    }
    assert [(stream.key, stream.kind, stream.rows) for stream in report.streams] == [
        ("input", "input", 70),
        ("node_0", "between", 112),
        ("node_1", "output", 96),
    ]


def test_the_shards_of_a_run_are_added_up(bench: Bench) -> None:
    ShardedPipeline(line(bench), shards=3, executor=InThreads()).create("a").run()
    report = read_report(str(bench.results), "a", rows=3)
    assert [node.account for node in report.nodes] == [
        account(source_rows=70, done=70, kept=56, filtered=14, rows_out=112),
        account(source_rows=112, done=112, kept=96, dead_letters=16, rows_out=96),
    ]
    assert report.run.shards is not None
    assert report.run.shards["count"] == 3
    assert [failure.count for failure in report.failures] == [16]
    assert [len(row.family) for row in report.rows] == [3, 3, 3]
    assert report.timeline[-1][2] == {"node_0": (70, 112, 0), "node_1": (112, 96, 16)}


def test_what_does_not_fit_together_is_found(bench: Bench) -> None:
    line(bench).create("a").run()
    size = bench.output.stat().st_size
    os.truncate(bench.output, size - 10)
    report = read_report(str(bench.results), "a", rows=0)
    assert report.nodes[1].account.findings == (f"{bench.output} has {size - 10} bytes, and {size} were committed",)
    assert report.totals["findings"] == 1
    assert "node_1: its counts do not add up; see below" in report.warnings

    bench.output.unlink()
    Path(f"{bench.output}.done").unlink()
    gone = read_report(str(bench.results), "a", rows=1)
    assert gone.nodes[1].account.findings == (
        f"{bench.output} is gone, with its commits and its seal, and 112 source rows were done",
    )
    assert (gone.nodes[1].account.is_known, gone.nodes[1].account.done) == (False, 112)
    assert gone.rows == []
    assert any(text.startswith("Sample rows: ") for text in gone.left_out)


def test_a_run_state_that_claims_more_than_the_files_hold_is_found(bench: Bench) -> None:
    line(bench).create("a").run()
    state = bench.run_state("a")
    state.pop("check")
    state["nodes"][0]["rows_out"] = 113
    bench.put_run_state("a", state)
    (found,) = read_report(str(bench.results), "a", rows=0).nodes[0].account.findings
    assert found.startswith("the run state says rows_out 113, and ")
    assert found.endswith(" says 112")
