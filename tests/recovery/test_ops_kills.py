"""`kill -9` of a pipeline of `llm_datagen.ops`: the output is that of an uninterrupted run."""

from __future__ import annotations

import itertools
import random
import shutil
import time
from pathlib import Path

import pytest

from ..kit.jobs import Jobs
from ..kit.support import lines, write_jsonl

ROWS = 3000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "streaming", "ordered", "size"),
    [
        (last, streaming, ordered, size)
        for last, (streaming, ordered, size) in zip(
            ("group", "shuffle", "best", "sample"),
            itertools.product([True, False], [True], [200, 4 << 20]),
            strict=True,
        )
    ],
)
def test_operators_with_state_survive_kills(
    tmp_path: Path, last: str, streaming: bool, ordered: bool, size: int
) -> None:
    jobs = Jobs(Path(__file__).with_name("state_job.py"))
    chance = random.Random(last)
    write_jsonl(tmp_path / "in.jsonl", [{"n": n, "key": n % 900} for n in range(ROWS)])
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    shutil.copy(tmp_path / "in.jsonl", undisturbed)
    job = {"last": last, "streaming": streaming, "ordered": ordered, "size": size}
    assert jobs.run({**job, "folder": str(undisturbed)}) == 0
    kills = 0
    while kills < 4:
        pid = jobs.start({**job, "folder": str(tmp_path), **({} if kills > 1 else {"hold": 300})})
        time.sleep(0.1 + chance.random() * 0.4)
        if (tmp_path / "out.jsonl.done").exists():
            assert jobs.wait(pid) == 0
            break
        kills += jobs.kill(pid) < 0
    assert kills > 1
    assert jobs.run({**job, "folder": str(tmp_path)}) == 0
    assert lines(tmp_path / "out.jsonl") == lines(undisturbed / "out.jsonl")
