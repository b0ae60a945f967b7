"""delivery="at_most_once": what was in flight when the process died is never handed out again."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeFailedError, Status
from llm_datagen.errors import StreamCorruptError
from llm_datagen.streams import JsonlStream, Span
from llm_datagen.streams.checksum_chain import ChecksumChain
from llm_datagen.streams.coverage import Coverage
from llm_datagen.streams.dispatch_log import DispatchLog, abandoned, forget
from llm_datagen.streams.position import Position
from llm_datagen.testing import record

from ..kit.jobs import Jobs
from ..kit.support import Bench, bag, eventually, lines, numbered
from .helpers import Seen, accounts_of, check_counts, dead_letters_of, double, failing_when
from .job import expected
from .kills import Work

ONCE: dict[str, Any] = {"delivery": "at_most_once"}

JOBS = [
    {"kind": "item", "settings": {**ONCE, "parallel_size": 3, "batch_size": 1}},
    {"kind": "item", "settings": {**ONCE, "streaming": False, "ordered": True}},
    {"kind": "batch", "settings": {**ONCE, "batch_size": 4}},
    {"kind": "async", "settings": {**ONCE, "writer_config": {"async_mode": False, "fsync": "never"}}},
]


def chained(text: str) -> bytes:
    """Return a dispatch log as it is written now; what follows the last newline is torn."""
    *whole, torn = text.encode().split(b"\n")
    chain = ChecksumChain()
    return b"".join(chain.line(line) for line in whole) + torn


@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{job['kind']} {job['settings']}")
def test_no_row_is_handed_out_twice_whatever_kills_the_process(tmp_path: Path, jobs: Jobs, job: dict[str, Any]) -> None:
    """R2, C1: every row is out, or filtered, or lettered as abandoned; an operator sees each at most once."""
    work = Work(jobs, tmp_path, 120, nap=0.001, mended=True, **job)
    while work.kills < 3 and work.kill_after(work.chance.randrange(1, 25)):
        work.accounts()
    assert work.kills == 3
    work.finish()
    first, second = work.accounts()
    assert max(work.calls().values()) == 1

    lost = {dead_letter["_i"] for dead_letter in dead_letters_of(work.between)}
    lost_behind = {dead_letter["_i"] for dead_letter in dead_letters_of(work.output)}
    for dead_letter in [*dead_letters_of(work.between), *dead_letters_of(work.output)]:
        assert dead_letter["error"]["kind"] == "Abandoned"
        assert dead_letter["attempts"] == 1
        assert dead_letter["input"] == {"n": dead_letter["_i"], "_i": dead_letter["_i"]}
    out = {row["_i"].rpartition("_")[0] for row in lines(work.output)}
    for n in range(work.rows):
        if n in lost or n % 4 == 0:
            assert str(n) not in out
            assert n not in lost_behind
        else:
            assert (n in lost_behind) != (str(n) in out)
    rows, _ = expected(work.rows, mended=True)
    assert bag(lines(work.output)) == bag(row for row in rows if row["n"] not in lost | lost_behind)
    assert (first.dead, second.dead) == (len(lost), len(lost_behind))
    # What is lost is what a kill can catch in flight: the calls that run, and results that wait for a flush.
    assert len(lost) + len(lost_behind) <= 3 * 2 * (8 + 20)


@pytest.mark.process
def test_what_a_kill_between_the_seal_and_its_logs_leaves_is_removed_by_the_resume(tmp_path: Path, jobs: Jobs) -> None:
    """S2: the stream is finished, and nothing of its making is left over."""
    work = Work(jobs, tmp_path, 20, mended=True, settings=ONCE)
    fault = {"operation": "remove", "path": "*.dispatched", "hit": 3}  # the first two are of the start
    assert work.jobs.run({**work.job, "fault": fault}) == -9
    assert list(tmp_path.rglob("*.dispatched"))
    work.finish()
    assert not list(tmp_path.rglob("*.dispatched"))


@pytest.mark.process
def test_the_same_kills_with_exactly_once_abandon_nothing(tmp_path: Path, jobs: Jobs) -> None:
    """R2: the default: every row comes out; calls may be repeated."""
    work = Work(jobs, tmp_path, 100, nap=0.001, mended=True)
    while work.kills < 3 and work.kill_after(work.chance.randrange(5, 25)):
        pass
    work.finish()
    work.check(mended=True)


@pytest.mark.process
def test_abandoned_rows_can_be_replayed(tmp_path: Path, jobs: Jobs) -> None:
    """M24: whoever knows that they may be done again, says so: then every row is there."""
    work = Work(jobs, tmp_path, 80, nap=0.02, mended=True, settings={**ONCE, "parallel_size": 4})
    assert work.kill_after(20)
    work.finish()
    assert dead_letters_of(work.between) or dead_letters_of(work.output)
    for _ in range(2):  # what was abandoned in the first node is new to the second
        work.finish(do="replay")
    work.check(mended=True)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("style", ["plain", "async", "batch"])
def test_a_cancel_abandons_nothing(bench: Bench, style: str, streaming: bool) -> None:
    """M7: what runs comes to its end, what does not run goes back: each row is handed out once, and is done."""
    bench.give(numbered(160))
    seen = Seen()
    act = seen.of("work", double)

    async def later(row: Any) -> Any:
        await asyncio.sleep(0)
        return act(row)

    def batch(rows: Any) -> Any:
        return [act(row) for row in rows]

    from llm_datagen import FunctionOperator

    work = {"plain": act, "async": later, "batch": FunctionOperator(batch, batch=True)}[style]
    pipeline = bench.pipeline(
        [work, seen.of("next", double)], parallel_size=3, batch_size=5, streaming=streaming, **ONCE
    ).create("a")
    for step in range(1, 5):
        pipeline.start()
        seen.reach(60 * step)
        pipeline.cancel()
        pipeline.wait(30)
        accounts_of(bench)
        pipeline.resume("a")
    report = pipeline.run()
    assert bag(lines(bench.output)) == bag({"n": 4 * n, "_i": n} for n in range(160))
    assert seen.by("work") == list(range(160))
    assert seen.by("next") == [2 * n for n in range(160)]
    assert report.failed == 0
    check_counts(bench, report)


def test_calls_that_are_given_up_are_abandoned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M7: nobody knows what came of them; the rest of the run goes on."""
    bench.give(numbered(10))
    seen = Seen()

    async def work(row: Any) -> Any:
        seen.calls.append(("work", row["n"]))
        if row["n"] == 3:
            await asyncio.sleep(3600)
        return row

    pipeline = bench.pipeline([work], parallel_size=2, grace=0.05, **ONCE).create("a")
    pipeline.start()
    eventually(lambda: bench.output.exists() and len(lines(bench.output)) == 9)  # only row 3 is in flight
    pipeline.cancel()
    report = pipeline.wait(30)
    assert report.status == Status.CANCELED
    report = pipeline.resume("a").run()
    assert seen.by("work") == list(range(10))
    assert [(dead_letter["_i"], dead_letter["error"]["kind"]) for dead_letter in dead_letters_of(bench.output)] == [
        (3, "Abandoned")
    ]
    assert report.rows_out == 9
    check_counts(bench, report)


def test_rows_that_failed_before_are_not_abandoned_by_a_replay(bench: Bench) -> None:
    """M24: a dead letter is known to have failed: taken up again, in the middle of a run, it is handed out again."""
    bench.give(numbered(100))
    bad = {3, 4}

    def work(row: Any, ctx: Any) -> Any:
        if row["n"] == 50 and bad:
            pipeline.cancel()
            eventually(ctx.is_cancelled)
        return failing_when(lambda: bool(bad), {3, 4})(row)

    pipeline = bench.pipeline([work], on_error="dead_letter", **ONCE).create("a")
    assert pipeline.run().status == Status.CANCELED
    assert [dead_letter["_i"] for dead_letter in dead_letters_of(bench.output)] == [3, 4]
    bad.clear()
    report = pipeline.replay("a").run()
    assert bag(lines(bench.output)) == bag({"n": 2 * n, "_i": n} for n in range(100))
    assert report.failed == 0
    check_counts(bench, report)


def test_a_failure_hands_back_what_it_stopped(bench: Bench) -> None:
    """M24: the row that ended the run is known to have failed, so it may be tried again."""
    bench.give(numbered(30))
    hurt = [1]
    seen = Seen()
    pipeline = bench.pipeline([seen.of("work", failing_when(lambda: bool(hurt), {9}))], **ONCE).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    hurt.clear()
    report = pipeline.resume("a").run()
    assert Counter(seen.by("work")) == Counter([*range(30), 9])
    assert (report.rows_out, report.failed) == (30, 0)
    check_counts(bench, report)


@pytest.mark.process
def test_poisoned_rows_and_lost_ones_are_told_apart(tmp_path: Path, jobs: Jobs) -> None:
    """C1: dead letters say why; together with what came out they are all rows."""
    work = Work(jobs, tmp_path, 100, nap=0.001, settings={**ONCE, "batch_size": 1})
    work.kill_after(30)
    work.finish()
    first, _ = work.accounts()
    kinds = Counter(dead_letter["error"]["kind"] for dead_letter in dead_letters_of(work.between))
    assert kinds["ValueError"] <= len([n for n in range(100) if n % 7 == 3])
    assert kinds.total() == first.dead
    assert first.covered == 100


def test_the_record_of_what_was_handed_out_goes_with_the_seal(bench: Bench) -> None:
    """S2: and is there while the stream is unfinished."""
    bench.give(numbered(5))
    path = Path(f"{bench.output}.dispatched")
    found: list[bytes] = []

    def work(row: Any) -> Any:
        found.append(path.read_bytes())
        return row

    bench.pipeline([work], **ONCE).create("a").run()
    assert found[0] == ChecksumChain().line(b"+ 0 1 0 9"), "it is written before the operator is called"
    assert not path.exists()


@pytest.mark.parametrize("version", ["chained", "older"])
@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", []),
        ("+ 0 4 0 40\n", [(0, 2), (3, 4)]),
        ("+ 0 4 0 40\n- 3 4 30 40\n", [(0, 2)]),
        ("+ 0 4 0 40\n- 0 4 0 40\n+ 3 5 30 50\n", [(3, 5)]),
        ("+ 0 2 0 20\n+ 4 6 40 6", [(0, 2)]),
        ("- 0 9 0 90\n+ 2 3 20 30\n", []),
    ],
)
def test_what_was_handed_out_and_neither_came_back_nor_is_done_is_abandoned(
    tmp_path: Path, text: str, left: list[tuple[int, int]], version: str
) -> None:
    """S1: row 2 is done here; a torn last line was written before its rows were handed out."""
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    Path(stream.dispatched_path).write_bytes(chained(text) if version == "chained" else text.encode())
    position = Position(coverage=Coverage([Span(2, 3, 20, 30)]))
    spans = [Span(start, end, 10 * start, 10 * end) for start, end in left]
    assert abandoned(stream, position) == spans
    forget(stream, spans)
    if not text or text.endswith("\n"):
        assert abandoned(stream, position) == []


@pytest.mark.parametrize("change", ["away", "twice", "flipped"])
def test_a_dispatch_log_that_was_changed_is_refused_by_line(tmp_path: Path, change: str) -> None:
    """R2: a row that was handed out must not be handed out again, nor be taken for abandoned."""
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    first, second, third = chained("+ 0 4 0 40\n- 3 4 30 40\n+ 4 5 40 50\n").splitlines(keepends=True)
    changed = {"away": first + third, "twice": first + second + second, "flipped": first + second[:-3] + b"7\n" + third}
    Path(stream.dispatched_path).write_bytes(changed[change])
    with pytest.raises(StreamCorruptError, match=r"out.jsonl.dispatched, line [23]"):
        abandoned(stream, Position())


def test_forgetting_makes_no_record_where_there_was_none(tmp_path: Path) -> None:
    """Exactly-once needs none."""
    stream = JsonlStream(str(tmp_path / "out.jsonl"))
    forget(stream, [Span(0, 1, 0, 9)])
    assert not Path(stream.dispatched_path).exists()
    DispatchLog(stream, sync=True).close()


def test_each_node_has_its_own_delivery(bench: Bench) -> None:
    """M4: only the node that asks for it pays for it."""
    bench.give(numbered(5))
    configs = [{}, {"delivery": "at_most_once"}]
    with record() as storage:
        bench.pipeline([double, double]).create("a", node_configs=configs).run()
    written = {Path(point.path).name for point in storage.hits if point.operation == "write"}
    assert {name for name in written if name.endswith(".dispatched")} == {"out.jsonl.dispatched"}
    assert [node["delivery"] for node in bench.run_state("a")["nodes"]] == ["exactly_once", "at_most_once"]


def test_a_wrong_delivery_is_named(bench: Bench) -> None:
    """M3: with what there is to choose from."""
    with pytest.raises(ConfigError, match="delivery must be one of 'exactly_once', 'at_most_once', not 'once'"):
        bench.pipeline([double], delivery="once")
