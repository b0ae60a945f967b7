"""Rejected rows are counted by their reason, wherever they are shown."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from llm_datagen import Rejected, ops
from llm_datagen.cli.app import app
from llm_datagen.runs.browse import reasons
from llm_datagen.runs.browse.reasons import NOT_KEPT, OTHERS, reasons_of

from ..kit.support import Bench, numbered
from ..kit.web import serving


def _cli(bench: Bench, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--results-dir", str(bench.results)])
    assert done.exit_code == 0, done.output
    return done.output


def test_each_reason_has_its_count_and_its_first_row(bench: Bench) -> None:
    bench.give(numbered(20))
    operators = [ops.Keep("n % 2 == 0"), ops.Limit(6), ops.Keep("n > 3")]
    configs: list[Any] = [{"keep_rejected": True}, {"keep_rejected": True}, {}]
    bench.pipeline(operators, node_configs=configs).create("a").run()
    found = [(each.node_id, each.reason, each.count, each.row_id) for each in reasons_of(bench.run_state("a")["nodes"])]
    assert found == [
        ("node_0", "not n % 2 == 0", 10, 1),
        ("node_1", "beyond the first 6", 4, 12),
        ("node_2", NOT_KEPT, 2, None),
    ]
    plain = [dict(zip(("node_id", "reason", "count", "id"), each, strict=True)) for each in found]
    with serving(bench.results) as client:
        assert client.get("/api/runs/0.a/failures") == {"groups": [], "total": 0, "rejected": plain}
    listed = [{"row_id": each.pop("id"), **each} for each in plain]
    assert json.loads(_cli(bench, "errors", "a", "--rejected", "--json")) == {
        "pipeline_id": "a", "rows": 16, "reasons": listed,
    }  # fmt: skip
    assert json.loads(_cli(bench, "report", "a", "--format", "json"))["rejected"] == listed
    assert "| 4 | node\\_1 | beyond the first 6 |" in _cli(bench, "report", "a", "--format", "md")
    assert "Rows that were rejected" in _cli(bench, "report", "a", "--out", "-", "--format", "html")
    assert _cli(bench, "errors", "a", "--rejected", "--node", "1").splitlines() == [
        "run a: 4 rows rejected",
        "node_1: 4 rows: beyond the first 6 (the first: row 12)",
    ]
    done = CliRunner().invoke(app, ["errors", "a", "--rejected", "--each", "--results-dir", str(bench.results)])
    assert done.exit_code == 2
    assert "--each is for rows that failed" in done.output


def test_reasons_beyond_some_are_counted_together(bench: Bench, monkeypatch: Any) -> None:
    monkeypatch.setattr(reasons, "_MOST_REASONS", 2)
    bench.give(numbered(5))
    bench.pipeline([lambda row: Rejected(f"reason {row['n']}")], keep_rejected=True).create("a").run()
    found = reasons_of(bench.run_state("a")["nodes"])
    assert {each.reason: each.count for each in found} == {"reason 0": 1, "reason 1": 1, OTHERS: 3}
