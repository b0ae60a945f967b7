"""Failures are grouped by node and cause, with one example of each."""

from __future__ import annotations

import json
from typing import Any

from llm_datagen.runs.browse.examples import example_of
from llm_datagen.runs.browse.failures import each_failure, failure_groups

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


def fails_by_kind(row: dict[str, Any]) -> None:
    raise RuntimeError("alpha" if row["n"] else "beta")


def test_examples_are_no_longer_than_there_is_room_for_and_the_whole_row_is_there(bench: Bench) -> None:
    long = [{"n": 0, "text": "x" * 70_000, "more": list(range(5000)), "s": 1.5}, {"n": 1, "text": "y" * 60_000}]
    bench.give(long)
    bench.pipeline([fails_by_kind], on_error="dead_letter").create("a").run()
    entries = bench.run_state("a")["nodes"]
    beta, alpha = sorted(failure_groups(entries), key=lambda group: group.text, reverse=True)
    assert (alpha.is_cut, alpha.input) == (False, {**long[1], "_i": 1})
    numbers = json.dumps(long[0]["more"], separators=(",", ":"))
    assert (beta.is_cut, beta.input) == (
        True,
        {
            "n": 0,
            "text": "x" * 2000 + "… (68,000 more characters)",
            "more": f"{numbers[:2000]}… ({len(numbers) - 2000:,} more characters)",
            "s": 1.5,
            "_i": 0,
        },
    )
    assert [row["input"] for row in each_failure((None, entry) for entry in entries)] == [
        {**row, "_i": number} for number, row in enumerate(long)
    ]


def test_an_example_is_bounded_whatever_it_is() -> None:
    assert example_of("x" * 64_000) == ("x" * 64_000, False)
    assert example_of("x" * 64_001) == ("x" * 2000 + "… (62,001 more characters)", True)
    assert example_of([1, "x" * 70_000])[0].startswith('[1,"xxx')
    wide, is_cut = example_of({f"{n}-{'k' * 5000}": "v" * 5000 for n in range(1000)})
    assert (is_cut, len(wide), wide["…"]) == (True, 31, "970 more fields")
    assert len(json.dumps(wide)) < 130_000
