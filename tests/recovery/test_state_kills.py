"""`kill -9` of nodes that keep state and give rows at the end: the output is that of an uninterrupted run."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path
from typing import Any

import pytest

from ..kit.jobs import Jobs
from ..kit.support import lines, numbered, write_jsonl

ROWS = 3000
EXPECTED: list[dict[str, Any]] = [
    *({"key": n, "nth": n + 1, "_i": n} for n in range(400)),
    *({"last": 399 - k, "nth": 400 - k, "_i": f"end_{k}"} for k in range(400)),
]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize(
    ("streaming", "ordered", "size"), list(itertools.product([True, False], [True, False], [200, 4 << 20]))
)
def test_a_state_survives_kills_with_its_rows(
    tmp_path: Path, streaming: bool, ordered: bool, size: int, seed: int
) -> None:
    jobs = Jobs(Path(__file__).with_name("state_job.py"))
    chance = random.Random(seed)
    write_jsonl(tmp_path / "in.jsonl", numbered(ROWS))
    job = {"folder": str(tmp_path), "streaming": streaming, "ordered": ordered, "size": size}
    kills = 0
    while kills < 8:
        pid = jobs.start(job if kills > 2 else {**job, "hold": 100})
        time.sleep(0.1 + chance.random() * 0.3)
        if (tmp_path / "out.jsonl.done").exists():
            assert jobs.wait(pid) == 0
            break
        kills += jobs.kill(pid) < 0
    assert kills > 2
    assert jobs.run(job) == 0
    assert lines(tmp_path / "out.jsonl") == EXPECTED
