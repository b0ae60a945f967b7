"""Operators that keep state go on where a run was stopped, as if it had not been."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_datagen import ops

from ..kit.support import Bench, Stopping, lines
from .calls import bare, outcome

STEPS: list[Any] = [
    ops.Dedupe("key", mark="of"),
    ops.Limit(250),
    ops.Sample(n=20),
    ops.TopK(7, by="n"),
    ops.GroupBy("key"),
    ops.GroupBy("half", sorted=True),
    ops.Best(2, by="n", of="key"),
    ops.Count("key"),
    ops.Stats(exact_distinct=100),
    ops.Shuffle(seed="a"),
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("operator", STEPS, ids=lambda each: each.name)
def test_an_operator_goes_on_where_a_run_was_stopped(bench: Bench, operator: Any) -> None:
    given_rows = [{"n": n, "key": n * 7 % 60, "half": n // 50} for n in range(400)]
    bench.give(given_rows)
    pipeline = bench.pipeline([Stopping(300), operator], streaming=True, writer_config={"flush_batch_size": 10})
    pipeline.create("run")
    pipeline.run()
    assert not bench.is_sealed()
    again = bench.pipeline([Stopping(), operator], streaming=True)
    again.resume("run")
    again.run()
    assert json.dumps(bare(lines(bench.output))) == json.dumps(bare(outcome(operator, given_rows)))
