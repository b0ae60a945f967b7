"""`kill -9` of runs with a target: the output has exactly so many rows, whenever they die."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify

from ..kit.jobs import Jobs
from ..kit.support import lines, numbered, write_jsonl

ROWS = 20_000
TARGET = 1234


def expected(shape: str) -> list[dict[str, Any]]:
    """Return the first rows that are accepted, in the order of the input."""
    rows: list[dict[str, Any]] = []
    for n in range(ROWS):
        if n % 3 == 1:
            continue
        if shape == "children":
            rows += [{"n": n, "k": k, "_i": f"{n}_{k}"} for k in range(n % 5)]
        else:
            rows.append({"n": n, **({"nth": len(rows) + 1} if shape == "state" else {}), "_i": n})
    return rows


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("shape", "streaming", "ordered", "parallel_size", "batch_size"),
    [
        ("children", True, True, 4, 1),
        ("children", True, False, 8, 1),
        ("rows", True, False, 4, 3),
        ("rows", False, True, 2, 1),
        ("batches", True, True, 4, 5),
        ("batches", True, False, 3, 7),
        ("state", True, True, 4, 1),
    ],
)
def test_a_target_is_met_exactly_whenever_the_run_dies(
    tmp_path: Path, shape: str, streaming: bool, ordered: bool, parallel_size: int, batch_size: int, seed: int
) -> None:
    jobs = Jobs(Path(__file__).with_name("target_job.py"))
    chance = random.Random(seed)
    write_jsonl(tmp_path / "in.jsonl", numbered(ROWS))
    job = {
        "folder": str(tmp_path),
        "target": TARGET,
        "shape": shape,
        "streaming": streaming,
        "ordered": ordered,
        "parallel_size": parallel_size,
        "batch_size": batch_size,
    }
    kills = 0
    out, seal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.done"
    while kills < 12:
        pid = jobs.start(job if kills > 1 else {**job, "hold": 200})
        if kills % 3 == 2:  # as near to the last row as can be
            while not seal.exists() and (not out.exists() or out.read_bytes().count(b"\n") < TARGET - 40):
                time.sleep(0.001)
            time.sleep(chance.random() * 0.02)
        else:
            time.sleep(0.1 + chance.random() * 0.3)
        kills += jobs.kill(pid) < 0
        if seal.exists():
            break
    assert kills > 1
    assert jobs.run(job) == 0
    found = lines(out)
    assert len(found) == TARGET
    every = expected(shape)
    if ordered:
        assert found == every[:TARGET]
    else:
        known = {json.dumps(row, sort_keys=True) for row in every}
        assert {json.dumps(row, sort_keys=True) for row in found} <= known
        assert len({row["_i"] for row in found}) == TARGET
    run_state = RunFolder(tmp_path / "results", "job").load()
    assert run_state["status"] == "completed"
    assert [account.findings for account in verify(run_state)] == [[], []]
    made = Counter((tmp_path / "calls").read_text().split())
    assert max(made.values()) <= 1 + kills
    before = out.read_bytes(), seal.read_bytes(), (tmp_path / "calls").read_bytes()
    assert jobs.run(job) == 0  # a completed run makes no call more
    assert before == (out.read_bytes(), seal.read_bytes(), (tmp_path / "calls").read_bytes())
