"""Workers and drivers of a run in shards are killed at any moment, again and again: no row is lost, none is twice."""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..kit.jobs import Jobs
from ..kit.shards import rows_in_shards, shard_states
from ..kit.support import Bench, eventually, is_worker, lines, numbered, worker_processes

pytestmark = pytest.mark.process

ROWS = 160


def calls(bench: Bench) -> list[str]:
    path = bench.folder / "calls"
    return path.read_text().split() if path.exists() else []


def check_rows(bench: Bench) -> None:
    """Check that the rows, their ids and the dead letters are those of a run in peace."""
    rows = rows_in_shards(bench, "a", "node_1")
    assert [(row["_i"], row["n"], row["k"]) for row in rows] == [
        (f"{n}_{k}", n, k) for n in range(ROWS) for k in range(n % 3) if n % 20 != 7
    ]
    dead = [
        row["_i"]
        for state in shard_states(bench, "a")
        for row in lines(Path(state["nodes"][0]["output_uri"].removeprefix("jsonl://") + ".errors.jsonl"))
    ]
    assert sorted(dead) == [n for n in range(ROWS) if n % 20 == 7]
    assert set(calls(bench)) == {str(n) for n in range(ROWS)}


@pytest.mark.sampled(1, of=3)
@pytest.mark.parametrize("seed", range(24))
def test_workers_and_drivers_that_are_killed_lose_nothing_and_repeat_nothing(bench: Bench, seed: int) -> None:
    """R2, M21, F2: a worker is begun again; workers of a driver that was killed end, and a resume goes on."""
    chance = random.Random(seed)
    bench.give(numbered(ROWS))
    jobs = Jobs(Path(__file__).with_name("kill_job.py"))
    job: dict[str, Any] = {"folder": str(bench.folder), "nap": 0.02, "seed": seed, "merge": "shards"}
    workers_killed = 0
    for _ in range(3):
        pid = jobs.start(job)
        wanted = len(calls(bench)) + chance.randrange(1, ROWS // 3)
        eventually(partial(_is_far, bench, wanted, pid))
        if seed % 2 or chance.random() < 0.5:
            for worker in worker_processes(pid)[:1]:
                os.kill(worker, signal.SIGKILL)
                workers_killed += 1
            time.sleep(chance.random() * 0.1)
        jobs.kill(pid)
        eventually(lambda: not any(map(is_worker, jobs.orphans)), "the workers have ended")
    assert jobs.run({**job, "nap": 0.0}) == 0
    check_rows(bench)
    # Of each worker that died, a task in flight in each of two nodes, and what no flush has committed.
    assert len(calls(bench)) - ROWS <= 3 * 2 * 40 + workers_killed * 40
    assert bench.run_state("a")["status"] == "completed"


def _is_far(bench: Bench, wanted: int, pid: int) -> bool:
    return len(calls(bench)) >= wanted or not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
