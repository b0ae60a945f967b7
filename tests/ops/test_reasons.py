"""Operators that leave a row out say why."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import Rejected, ops

from ..kit.support import Bench, lines, numbered, write_jsonl


def _never(row: dict[str, Any]) -> Any:
    return Rejected("the body says so") if row["n"] == 1 else None if row["n"] == 2 else row


@pytest.mark.parametrize(
    ("make", "reasons"),
    [
        (lambda side: ops.Limit(3), {3: "beyond the first 3", 4: "beyond the first 3"}),
        (lambda side: ops.Sample(share=0.0), dict.fromkeys(range(5), "not in the sample")),
        (lambda side: ops.Join(side, by="n", how="inner"), dict.fromkeys((1, 2, 4), "no match in the table")),
        (
            lambda side: ops.Loop(_never, until="n == 3", max_rounds=2, unmet="drop"),
            {0: (why := "until does not hold after 2 rounds"), 1: "the body says so", 4: why},
        ),
        (
            lambda side: ops.Loop(_never, until="n == 3", max_rounds=2, unmet="drop", keep_rounds=True),
            {0: why, 1: "the body says so", 4: why},
        ),
        (
            lambda side: ops.ToPreference(prompt="q", answers="a", scores="s", least_gap=2),
            {1: "the scores are too near", 2: "the scores are equal", 3: "no answers"},
        ),
        (
            lambda side: ops.ToPreference(prompt="q", answers="b", scores="s"),
            {0: (same := "the answers are the same"), 1: same, 2: same, 3: "no answers", 4: same},
        ),
        (
            lambda side: ops.ToPreference(prompt="q", answers="c", scores="c1"),
            dict.fromkeys(range(5), "only one answer"),
        ),
        (
            lambda side: ops.ToPreference(prompt="q", chosen="q", rejected="q"),
            dict.fromkeys(range(5), "the answers are the same"),
        ),
    ],
)
def test_each_row_that_is_left_out_has_its_reason(bench: Bench, make: Any, reasons: dict[int, str]) -> None:
    side = write_jsonl(bench.folder / "side.jsonl", [{"n": 0, "more": 1}, {"n": 3, "more": 2}])
    scores = [[1, 5], [1, 2], [4, 4], [], [9, 1]]
    rows = [{**row, "q": "?", "s": of_row} for row, of_row in zip(numbered(5), scores, strict=True)]
    one = {"c": ["x"], "c1": [1]}
    bench.give({**row, **one, "a": ["x", "y"][: len(row["s"])], "b": ["x"] * len(row["s"])} for row in rows)
    report = bench.pipeline([make(str(side))], keep_rejected=True).create("a").run()
    assert {row["_i"]: row["reason"] for row in lines(bench.folder / "out.jsonl.rejected.jsonl")} == reasons
    assert report.rejected == len(reasons)
