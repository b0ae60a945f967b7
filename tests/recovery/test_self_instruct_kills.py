"""`kill -9` of a pipeline whose end feeds its beginning: what was drawn for a row is part of it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from llm_datagen.runs.verify import verify
from llm_datagen.testing import FakeLLMServer

from ..kit.jobs import Jobs
from ..kit.support import eventually, lines
from .self_instruct_job import BUDGET, SEEDS, answer, answer_to, prompt_of, seeds

ROWS = 300
TARGET = 200


@pytest.mark.slow
@pytest.mark.parametrize("target", [None, TARGET])
def test_accepted_rows_are_fed_back_whatever_is_killed(tmp_path: Path, target: int | None) -> None:
    jobs = Jobs(Path(__file__).with_name("self_instruct_job.py"))
    chance = random.Random(target or 1)
    kills = 0
    with FakeLLMServer(answer=answer, latency=0.01) as server:
        job = {"folder": str(tmp_path), "base_url": server.base_url, "rows": None if target else ROWS, "target": target}
        while kills < 5:
            wanted = server.calls + chance.randrange(1, 35)
            pid = jobs.start(job)
            eventually(lambda wanted=wanted: server.calls >= wanted)  # type: ignore[misc]
            kills += jobs.kill(pid) < 0
        assert jobs.run(job) == 0
    drawn = lines(tmp_path / "between" / "job" / "node_0.jsonl")
    drawn_ids = sorted(int(row["_i"]) for row in drawn)
    if not target:
        assert drawn_ids == list(range(ROWS))
    assert len(set(drawn_ids)) == len(drawn_ids)
    assert server.calls <= len(drawn) + 5 * 4, "paid again: the rows in flight, of which others were drawn"
    assert all(row["topic"] == seeds(None).row(int(row["_i"]))["topic"] for row in drawn)
    rows = lines(tmp_path / "out.jsonl")
    tasks = [row["task"] for row in rows]
    assert len(set(tasks)) == len(tasks) == len({row["_i"] for row in rows}) > 100
    assert len(rows) == (target or len(rows))
    assert (tmp_path / "out.jsonl.done").exists()
    assert all(row["task"] == answer_to(prompt_of(row["topic"], row["examples"])) for row in rows)
    known = {row["task"] for row in SEEDS} | set(tasks)
    shown = {example["task"] for row in drawn for example in row["examples"]}
    assert shown <= known, "only what was accepted, and committed, is shown"
    assert len(shown) > 50
    run_state = json.loads((tmp_path / "results" / "job" / "runtime.json").read_bytes())
    assert run_state["status"] == "completed"
    used = sum(entry["prompt_tokens"] + entry["completion_tokens"] for entry in run_state["usage"])
    assert 0 < used <= BUDGET
    assert [finding for account in verify(run_state) for finding in account.findings] == []
