"""Failures are grouped by node and cause, with one example of each."""

from __future__ import annotations

from typing import Any

from llm_datagen.runs.browse.failures import failure_groups

from ..kit.support import Bench, numbered


def picky(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] % 10 == 7:
        raise ValueError(f"no row {row['n']}")
    return {**row, "half": row["missing"] if row["n"] == 4 else 0}


def test_each_group_has_an_example_with_its_traceback(bench: Bench) -> None:
    bench.give(numbered(30))
    bench.pipeline([picky], on_error="dead_letter").create("one").run()
    groups = failure_groups(bench.run_state("one")["nodes"])
    assert [(group.node_id, group.kind, group.text, group.count, group.row_id) for group in groups] == [
        ("node_0", "ValueError", "no row 7", 3, 7),
        ("node_0", "KeyError", "'missing'", 1, 4),
    ]
    assert groups[1].input == {"n": 4, "_i": 4}
    assert 'row["missing"]' in groups[1].trace
