"""`kill -9` of a pipeline whose end feeds its beginning: what was drawn for a row is part of it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from llm_datagen.runs.verify import verify
from llm_datagen.testing import FakeLLMServer

from ..kit.jobs import Jobs
from ..kit.support import lines
from .self_instruct_job import SEEDS, answer, answer_to, prompt_of, seeds

ROWS = 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_accepted_rows_are_fed_back_whatever_is_killed(tmp_path: Path, seed: int) -> None:
    jobs = Jobs(Path(__file__).with_name("self_instruct_job.py"))
    chance = random.Random(seed)
    kills = 0
    with FakeLLMServer(answer=answer, latency=0.01) as server:
        job = {"folder": str(tmp_path), "base_url": server.base_url, "rows": ROWS}
        while kills < 5:
            pid = jobs.start(job)
            time.sleep(0.15 + chance.random() * 0.25)
            assert not (tmp_path / "out.jsonl.done").exists(), "too quick to be killed five times"
            kills += jobs.kill(pid) < 0
        assert jobs.run(job) == 0
        assert server.calls <= ROWS + 5 * 4, "paid again: the rows in flight, of which others were drawn"
    drawn = lines(tmp_path / "between" / "job" / "node_0.jsonl")
    assert sorted(int(row["_i"]) for row in drawn) == list(range(ROWS))
    assert all(row["topic"] == seeds(ROWS).row(int(row["_i"]))["topic"] for row in drawn)
    rows = lines(tmp_path / "out.jsonl")
    tasks = [row["task"] for row in rows]
    assert len(set(tasks)) == len(tasks) == len({row["_i"] for row in rows}) > 100
    assert all(row["task"] == answer_to(prompt_of(row["topic"], row["examples"])) for row in rows)
    known = {row["task"] for row in SEEDS} | set(tasks)
    shown = {example["task"] for row in drawn for example in row["examples"]}
    assert shown <= known, "only what was accepted, and committed, is shown"
    assert len(shown) > 50
    run_state = json.loads((tmp_path / "results" / "job" / "runtime.json").read_bytes())
    assert run_state["status"] == "completed"
    assert [finding for account in verify(run_state) for finding in account.findings] == []
