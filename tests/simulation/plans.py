"""Plans of inputs that are not there: the package's own plan, with cuts at even distances."""

from __future__ import annotations

import json

from llm_datagen.shards.plan import Cut, ShardPlan, ShardRange

BYTES_PER_ROW = 1000


def even_plan(rows: int, shards: int, grain: int) -> ShardPlan:
    """Return the plan of one file of rows of 1,000 bytes."""
    places = [_cut(rows * n // (shards * grain)) for n in range(shards * grain + 1)]
    ranges = [ShardRange(n, places[n * grain], places[(n + 1) * grain]) for n in range(shards)]
    return ShardPlan("jsonl:///data/in.jsonl", None, shards, tuple(places[1:-1]), tuple(ranges))


def plan_bytes(plan: ShardPlan) -> int:
    """Return how long `plan.json` is."""
    return len(json.dumps(plan.as_dict()))


def _cut(row: int) -> Cut:
    return Cut(row, row * BYTES_PER_ROW)
