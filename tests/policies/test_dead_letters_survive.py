"""Dead letters are committed like rows: kill -9, cancel and failure lose none, repeat none, tear none (M21, M24)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import NodeFailedError, Status
from llm_datagen.errors import StreamChangedError, StreamError

from ..kit.jobs import Jobs
from ..kit.support import Bench, bag, lines, numbered
from .helpers import PoisonError, Seen, accounts_of, check_counts, dead_letters_of, double, poisoned
from .kills import Work

KINDS = [
    {"kind": kind, "settings": {"ordered": ordered, "streaming": streaming, "batch_size": 2 if kind == "item" else 4}}
    for kind, ordered, streaming in [
        ("item", False, True),
        ("batch", True, True),
        ("async", False, False),
        ("async", True, True),
    ]
]


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("job", KINDS, ids=lambda job: f"{job['kind']} {job['settings']}")
def test_rows_and_dead_letters_are_there_once_after_kills_at_random_moments(
    tmp_path: Path, jobs: Jobs, job: dict[str, Any]
) -> None:
    """M21, M24: whatever is done when the process dies, the resumed run has exactly the dead letters of a calm run."""
    work = Work(jobs, tmp_path, 150, nap=0.0005, **job)
    while work.kills < 3 and work.kill_after(work.chance.randrange(1, 30)):
        work.accounts()
    work.finish()
    work.check()
    assert work.kills == 3
    again = work.calls().total() - len(work.calls())
    assert again <= 3 * 2 * 80 + work.rows, (
        "calls are repeated for what was in flight or not flushed, and to find bad rows"
    )


@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("keep", [0, 1, 700])
@pytest.mark.parametrize("hit", [1, 2, 5])
def test_a_torn_letter_is_cut_off_and_written_again(tmp_path: Path, jobs: Jobs, keep: int, hit: int) -> None:
    """S1: the letter comes before its commit; without that, it was never written."""
    settings = {"batch_size": 1, "parallel_size": 1, "writer_config": {"async_mode": False, "fsync": "never"}}
    work = Work(jobs, tmp_path, 40, settings=settings, nap=0.01)  # calls that take so long have a commit each
    fault = {"operation": "write", "path": "*.errors.jsonl", "hit": hit, "action": "tear", "keep": keep}
    assert work.jobs.run({**work.job, "fault": fault}) == -9
    work.finish()
    work.check()


@pytest.mark.sampled(2)
@pytest.mark.process
@pytest.mark.parametrize("where", ["*.errors.jsonl", "*.commits"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_death_of_the_process_between_letter_and_commit_is_survived(
    tmp_path: Path, jobs: Jobs, where: str, when: str
) -> None:
    """S1: at every step of a letter's way to the disk."""
    work = Work(jobs, tmp_path, 30)
    for hit in (1, 3):
        fault = {"operation": "write", "path": where, "hit": hit, "action": "kill", "when": when}
        assert work.jobs.run({**work.job, "fault": fault}) in {-9, 0}
    work.finish()
    work.check()


@pytest.mark.process
def test_a_full_disk_under_the_dead_letters_fails_the_run_and_loses_none(tmp_path: Path, jobs: Jobs) -> None:
    """F1, M24: as with rows: mend the cause, resume."""
    work = Work(jobs, tmp_path, 60)
    fault = {"operation": "write", "path": "*.errors.jsonl", "hit": 2, "action": "tear", "keep": 10, "error": "ENOSPC"}
    assert work.jobs.run({**work.job, "fault": fault}) == 1
    assert "ENOSPC" in work.said() or "No space left" in work.said()
    work.finish()
    work.check()


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
def test_cancels_again_and_again_give_the_same_dead_letters(bench: Bench, ordered: bool) -> None:
    """M7, M24: what had failed before a cancel is saved; only a row that fails during it is called again."""
    rows = numbered(300)
    bench.give(rows)
    bad = range(0, 300, 11)
    seen = Seen()
    pipeline = bench.pipeline(
        [seen.of("work", poisoned(bad)), double],
        on_error="dead_letter",
        ordered=ordered,
        parallel_size=1 if ordered else 3,  # rows that wait for their turn are done again
        streaming=True,
        writer_config={"async_mode": False},
    ).create("a")
    cancels = 4
    for step in range(1, cancels + 1):
        pipeline.start()
        seen.reach(60 * step)
        pipeline.cancel()
        report = pipeline.wait(30)
        accounts_of(bench)
        pipeline.resume("a")
    report = pipeline.run()
    assert bag(lines(bench.output)) == bag({"n": 4 * n, "_i": n} for n in range(300) if n not in bad)
    assert sorted(dead_letter["_i"] for dead_letter in dead_letters_of(bench.between("a"))) == list(bad)
    again = Counter(seen.by("work")) - Counter(range(300))
    assert set(again) <= set(bad), "what came out was called again"
    assert again.total() <= cancels * 3
    check_counts(bench, report)


def test_a_failure_leaves_the_dead_letters_of_other_nodes_as_they_are(bench: Bench) -> None:
    """F1, M24: policies are per node; the dead letters that were written before the failure stay, once."""
    bench.give(numbered(100))
    hurt = [True]

    def work(row: Any) -> Any:
        if row["n"] == 120 and hurt:
            raise PoisonError("down")
        return row

    pipeline = bench.pipeline([poisoned(range(0, 100, 9)), work], streaming=True).create(
        "a", node_configs=[{"on_error": "dead_letter"}]
    )
    with pytest.raises(NodeFailedError, match="node_1 failed: PoisonError: down"):
        pipeline.run()
    before = dead_letters_of(bench.between("a"))
    hurt.clear()
    report = pipeline.resume("a").run()
    after = dead_letters_of(bench.between("a"))
    assert after[: len(before)] == before
    assert [dead_letter["_i"] for dead_letter in after] == list(range(0, 100, 9))
    check_counts(bench, report)


@pytest.mark.parametrize("change", ["shortened", "removed"])
def test_dead_letters_that_were_committed_and_are_gone_are_missed(bench: Bench, change: str) -> None:
    """M22, S3: a resume does not go on as if they had never been."""
    bench.give(numbered(50))
    pipeline = bench.pipeline([poisoned({3, 9})], on_error="dead_letter", max_errors=1).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    path = Path(f"{bench.output}.errors.jsonl")
    if change == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StreamChangedError, match=f"{path} has .* were committed"):
        pipeline.resume("a", max_errors=10)


@pytest.mark.parametrize("change", ["shortened", "removed", "zeros"])
@pytest.mark.parametrize("ends", [True, False])
def test_dead_letters_that_cannot_be_read_are_missed_also_beside_a_finished_output(
    bench: Bench, change: str, ends: bool
) -> None:
    """M22, S3: what a loss of power leaves of a file that was not synced; the run would be called completed."""
    bench.give(numbered(50))
    pipeline = bench.pipeline([poisoned({3, 9})], on_error="dead_letter", max_errors=None if ends else 1).create("a")
    if ends:
        pipeline.run()
    else:
        with pytest.raises(NodeFailedError):
            pipeline.run()
    path = Path(f"{bench.output}.errors.jsonl")
    data = path.read_bytes()
    if change == "removed":
        path.unlink()
    else:
        path.write_bytes(data[:-5] if change == "shortened" else data[:20] + bytes(8) + data[28:])
    with pytest.raises(StreamError, match=f"{path}"):
        pipeline.resume("a").run()


def test_what_stands_behind_the_committed_dead_letters_is_cut_off(bench: Bench) -> None:
    """S1: nobody was promised it."""
    bench.give(numbered(50))
    pipeline = bench.pipeline([poisoned({3, 9})], on_error="dead_letter", max_errors=1).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    with Path(f"{bench.output}.errors.jsonl").open("a") as file:
        file.write('{"_i": 4, "node_id": "node_0", "inp')
    report = pipeline.resume("a", max_errors=10).run()
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [3, 9]
    assert report.status == Status.COMPLETED
    check_counts(bench, report)
