"""`kill -9`: at random moments, and at every single change of the disk. A resume gives the rows of a run in peace."""

from __future__ import annotations

import itertools
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ..kit.jobs import Jobs
from ..kit.support import bag, eventually, is_worker, lines, numbered, pairwise, write_jsonl
from .left_by_jobs import calls_of, check_rows, committed, output_of, rows_of, said

CONFIGS = [
    {"streaming": streaming, "async_mode": async_mode, "protocol": protocol}
    for streaming, async_mode, protocol in itertools.product([True, False], [True, False], ["jsonl", "csv"])
]


def name_of(config: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in config.items())


def moved(job: dict[str, Any]) -> int:
    """Return the rows that are committed in both streams of a job."""
    output = output_of(job)
    between = Path(job["folder"], "between", "job", f"node_0{output.suffix}")
    return committed(between) + committed(output)


def _has_come(job: dict[str, Any], wanted: int) -> bool:
    return moved(job) >= wanted or "report" in said(job)


def kill_again_and_again(jobs: Jobs, job: dict[str, Any], kills: int, rows: int, chance: random.Random) -> int:
    """Kill a job that many times, each time after it has come a bit further; then let it end.

    Returns:
        How many calls were made more than once.
    """
    folder = Path(job["folder"])
    write_jsonl(folder / "in.jsonl", numbered(rows))
    Path(folder / "calls").touch()
    for number in range(kills):
        pid = jobs.start({**job, "seed": chance.random(), "if_exists": "resume"})
        wanted = moved(job) + 1 + chance.randrange(max(2, 2 * rows // (kills + 1)))
        eventually(partial(_has_come, job, wanted), f"{wanted} rows, kill {number}")
        time.sleep(chance.random() * 0.02)
        jobs.kill(pid)
        for path in ("runtime.json", "checkpoint.json"):  # whole at every instant
            text = folder / "results" / "job" / path
            if text.exists():
                json.loads(text.read_bytes())
        if "report" in said(job):
            break
    assert jobs.run({**job, "resume": True, "nap": 0.0}) == 0, said(job)
    check_rows(job, rows)
    calls = calls_of(job)
    assert set(calls) == {f"{node}:{n}" for node in (0, 1) for n in range(rows)}
    return len(calls) - 2 * rows


def bound(job: dict[str, Any], kills: int) -> int:
    """Return how many calls may be repeated.

    In each of two nodes: a task of each worker, none larger than the writer's queue, and a full queue.
    """
    workers: int = job.get("parallel_size", 2) * (1 if job.get("kind") == "batch" else job.get("batch_size", 2))
    queue: int = job.get("queue_size", 20)
    return kills * 2 * (workers * queue + queue)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("kind", "ordered", "streaming", "async_mode", "protocol"),
    pairwise(["async", "batch", "item"], [True, False], [True, False], [True, False], ["jsonl", "csv"]),
)
def test_a_run_that_is_killed_three_times_gives_the_rows_of_a_run_in_peace(
    tmp_path: Path, jobs: Jobs, kind: str, ordered: bool, streaming: bool, async_mode: bool, protocol: str
) -> None:
    """M21, S1, R2: no row lost, none twice, no torn line; calls repeated only for what was in flight or unflushed."""
    config = {"kind": kind, "ordered": ordered, "streaming": streaming, "async_mode": async_mode, "protocol": protocol}
    job = {"folder": str(tmp_path), "nap": 0.001, "parallel_size": 3, "batch_size": 2, **config}
    again = kill_again_and_again(jobs, job, 3, 120, random.Random(repr(config)))
    print(f"{again} calls repeated")
    if ordered:
        ids = [tuple(map(int, row["_i"].split("_"))) for row in rows_of(job)]
        assert ids == sorted(ids)
        assert again <= 2 * bound(job, 3)  # and rows that waited for their turn
    else:
        assert again <= bound(job, 3)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{"kind": "item", "ordered": True}, {"kind": "batch", "protocol": "csv"}])
def test_worker_processes_die_with_the_run_that_is_killed(tmp_path: Path, jobs: Jobs, config: dict[str, Any]) -> None:
    """M21, R2, F2: with operators in processes of their own the promises are the same, and none of these is left."""
    job = {"folder": str(tmp_path), "nap": 0.001, "executor": "process", **config}
    jobs.orphans.clear()
    again = kill_again_and_again(jobs, job, 2, 120, random.Random(5))
    assert again <= 2 * bound(job, 2)  # ordered: and rows that waited for their turn
    assert jobs.orphans
    eventually(lambda: not any(map(is_worker, jobs.orphans)))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
def test_nodes_wired_by_hand_survive_kills(tmp_path: Path, jobs: Jobs, streaming: bool) -> None:
    """M31, M21: one stream that two nodes read; killed four times, each branch has every row once."""
    chance = random.Random(7)
    job = {"folder": str(tmp_path), "shape": "fan", "streaming": streaming, "nap": 0.001}
    write_jsonl(tmp_path / "in.jsonl", numbered(200))
    ends = [tmp_path / f"{name}.jsonl" for name in ("middle", "out", "third")]
    wanted = [0]
    for number in range(4):
        pid = jobs.start({**job, "seed": number, "if_exists": "resume"})
        wanted.append(sum(map(committed, ends)) + 1 + chance.randrange(150))
        eventually(lambda: sum(map(committed, ends)) >= wanted[-1] or "report" in said(job))
        jobs.kill(pid)
    assert jobs.run({**job, "if_exists": "resume", "nap": 0.0}) == 0, said(job)
    check_rows(job, 200)
    assert bag(lines(ends[2])) == bag(lines(ends[1]))
    calls = calls_of(job)
    assert set(calls) == {f"{node}:{n}" for node in (0, 1, 2) for n in range(200)}
    assert len(calls) - 600 <= 4 * 3 * (4 * 20 + 20)


def test_a_kill_costs_slow_operators_hardly_more_than_the_calls_in_flight(tmp_path: Path, jobs: Jobs) -> None:
    """R2: model calls take long, so a finished one is on disk at once: at most the calls in flight are paid twice."""
    job = {"folder": str(tmp_path), "nap": 0.01, "parallel_size": 4, "batch_size": 1}
    kills = 4
    again = kill_again_and_again(jobs, job, kills, 120, random.Random(3))
    print(f"{again} calls repeated")
    # Four calls in each of two nodes; and the results of as many that end at the moment of the kill.
    assert again <= kills * 2 * (4 + 4)


def crash_at_every_change(
    jobs: Jobs, job: dict[str, Any], rows: int, *, torn: bool, first: int = 1, step: int = 1
) -> int:
    """Let a job die in the middle of its 1st, 2nd, … change of the disk, and resume it.

    Returns:
        How many changes a run in peace makes.
    """
    top = Path(job["folder"])
    for at in itertools.count(first, step):
        folder = top / str(at)
        folder.mkdir()
        write_jsonl(folder / "in.jsonl", numbered(rows))
        this = {**job, "folder": str(folder), "if_exists": "resume"}
        status = jobs.run({**this, "die": {"at": at, "torn": torn}})
        if status == 0:
            return at
        assert status == -9, said(this)
        if at % 2:  # and once more while it recovers
            assert jobs.run({**this, "die": {"at": 1 + at * 7 % 23, "torn": not torn}}) in (0, -9), said(this)
        assert jobs.run(this) == 0, (at, said(this))
        check_rows(this, rows)
    raise AssertionError


@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
def test_a_kill_in_the_middle_of_any_change_of_the_disk_is_survived(
    tmp_path: Path, jobs: Jobs, streaming: bool
) -> None:
    """M21, S1, S2: at every instant there is: between any two changes of the disk, and in the middle of a write."""
    job = {"folder": str(tmp_path), "streaming": streaming, "async_mode": False, "parallel_size": 1, "batch_size": 4}
    assert crash_at_every_change(jobs, job, 6, torn=streaming, first=1 + streaming, step=7) > 20


@pytest.mark.slow
def test_a_kill_in_the_middle_of_any_change_is_survived_by_an_output_without_ids(tmp_path: Path, jobs: Jobs) -> None:
    """S1, R2: the rows with their ids, and the copy without them, both exactly once. The copying comes last."""
    job = {"folder": str(tmp_path), "async_mode": False, "parallel_size": 1, "batch_size": 4, "keep_ids": False}
    assert crash_at_every_change(jobs, {**job, "streaming": False}, 6, torn=True, first=30, step=5) > 45


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_every_change_of_the_disk_may_be_the_last(tmp_path: Path, jobs: Jobs, config: dict[str, Any]) -> None:
    """M21, S1, S2: the same for all modes, whole and torn."""
    for torn in (True, False):
        folder = tmp_path / str(torn)
        folder.mkdir()
        job = {"folder": str(folder), "parallel_size": 2, "batch_size": 2, **config}
        crash_at_every_change(jobs, job, 30, torn=torn)


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_sixty_kills(tmp_path: Path, jobs: Jobs, config: dict[str, Any], seed: int) -> None:
    """M21, R2: sixty kills at random moments of one run."""
    chance = random.Random(f"{config} {seed}")
    job = {
        "folder": str(tmp_path),
        "nap": 0.001,
        "parallel_size": chance.choice([1, 2, 5]),
        "batch_size": chance.choice([1, 2, 7]),
        "kind": chance.choice(["item", "async", "batch"]),
        **config,
    }
    again = kill_again_and_again(jobs, job, 60, 4000, chance)
    print(f"{config} {job['kind']} {job['parallel_size']}x{job['batch_size']}: {again} calls repeated by 60 kills")
    assert again <= bound(job, 60)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["item", "async", "batch"])
def test_a_run_that_is_killed_while_it_is_paused_goes_on_with_a_resume(tmp_path: Path, jobs: Jobs, kind: str) -> None:
    """M21, M30: no call was made between the answer and the kill; a resume is not paused, and gives the right rows."""
    job: dict[str, Any] = {"folder": str(tmp_path), "kind": kind, "nap": 0.002, "pause_at": 60, "hang_at": 150}
    write_jsonl(tmp_path / "in.jsonl", numbered(200))
    Path(tmp_path / "calls").touch()
    pid = jobs.start(job)
    eventually(lambda: "paused" in said(job))
    made = Path(tmp_path / "calls").read_text()
    time.sleep(0.3)
    assert Path(tmp_path / "calls").read_text() == made
    eventually(lambda: json.loads((tmp_path / "results" / "job" / "runtime.json").read_bytes())["paused"])
    jobs.kill(pid)
    del job["pause_at"], job["hang_at"]
    assert jobs.run({**job, "resume": True, "nap": 0.0}) == 0, said(job)
    check_rows(job, 200)
