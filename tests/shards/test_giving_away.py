"""Work stealing: a slow shard gives rows away that it has not begun, and no row is in two shards, or in none."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedNode, UnifiedNodePipeline
from llm_datagen.errors import RunError
from llm_datagen.messages import GiveAway
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify
from llm_datagen.shards import splitter
from llm_datagen.shards.gather import gather
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.shards.plan import Cut, ShardPlan, plan_shards
from llm_datagen.shards.spec import shards_folder
from llm_datagen.shards.verify_whole import verify_whole
from llm_datagen.shards.whole import Whole
from llm_datagen.streams import Coverage, Span, Stream, StreamFactory
from llm_datagen.streams.inputs.part import PartStream
from llm_datagen.streams.source_cursor import SourceCursor

from ..kit.jobs import Jobs
from ..kit.s3 import S3Bucket
from ..kit.shards import InThreads, in_shards, shard_states
from ..kit.support import (
    PATIENCE_SECONDS,
    QUICK,
    Bench,
    eventually,
    is_worker,
    lines,
    nothing_left,
    numbered,
    worker_processes,
)


def planned(bench: Bench, shards: int) -> ShardPlan:
    source = StreamFactory.source(f"jsonl://{bench.input}")
    assert isinstance(source, Stream)
    return plan_shards(source, shards)


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


class Gate:
    """Lets rows through until one, at which it waits until it is opened."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.is_there = threading.Event()
        self.is_open = threading.Event()

    def process_item(self, item: Any, ctx: Any) -> Any:
        if item["n"] == self.at:
            self.is_there.set()
            assert self.is_open.wait(PATIENCE_SECONDS)
        return item


@pytest.mark.parametrize("streaming", [True, False])
def test_a_part_ends_where_the_rows_begin_that_it_gave_away(bench: Bench, streaming: bool) -> None:
    """S1, S2: it is sealed, complete, with the rows before; a resume of it, and verify, know its end."""
    bench.give(numbered(4000))
    plan = planned(bench, 2)
    uri = plan.part_uri(plan.ranges[0])
    cuts = plan.cuts_in(plan.ranges[0])
    gate = Gate(3)
    pipeline = bench.pipeline([gate, same], input_uri=uri, streaming=streaming, batch_size=1, source_column="_from")
    run = pipeline.create("a").start()
    assert gate.is_there.wait(PATIENCE_SECONDS)
    cut = cuts[-2]
    assert run.ask(GiveAway(cuts[-1].row, cuts[-1].at), timeout=PATIENCE_SECONDS) is True
    assert run.ask(GiveAway(cut.row, cut.at), timeout=PATIENCE_SECONDS) is True
    assert bench.run_state("a")["nodes"][0]["input_end"] == [cut.row, cut.at]
    # What was read, and what it has no more, stays as it is.
    assert run.ask(GiveAway(0, 0), timeout=PATIENCE_SECONDS) is False
    assert run.ask(GiveAway(cuts[-1].row, cuts[-1].at), timeout=PATIENCE_SECONDS) is False
    gate.is_open.set()
    report = pipeline.wait()
    assert (report.status, report.rows_in, report.nodes[0].total) == ("completed", cut.row, cut.row)
    assert [row["n"] for row in lines(bench.output)] == list(range(cut.row))
    assert [account.findings for account in verify(bench.run_state("a"))] == [[], []]
    again = bench.pipeline([gate, same], input_uri=uri, streaming=streaming, source_column="_from").resume("a").run()
    assert (again.status, again.rows_in) == ("completed", cut.row)


def test_a_part_cannot_end_before_rows_that_were_done_read_or_given_away(bench: Bench) -> None:
    """S1: also where rows behind a hole were done by an earlier run."""
    bench.give(numbered(4000))
    plan = planned(bench, 2)
    cuts = plan.cuts_in(plan.ranges[0])
    done = Coverage([Span(cuts[1].row, cuts[3].row, cuts[1].at, cuts[3].at)])
    part = StreamFactory.create(plan.part_uri(plan.ranges[0]))
    assert isinstance(part, PartStream)
    cursor = part.cursor(part.gaps(done), follow=False)
    with contextlib.closing(cursor):
        check_ends(part, cursor, cuts)
    # Nothing is left of a part whose rows were all done, nor can it end sooner.
    done.add(Span(0, cuts[1].row, 0, cuts[1].at))
    done.add(Span(cuts[3].row, cuts[-1].row, cuts[3].at, cuts[-1].at))
    assert part.cursor(part.gaps(done), follow=False).ended()
    assert not part.shorten((cuts[3].row, cuts[3].at))


def check_ends(part: PartStream, cursor: SourceCursor, cuts: list[Cut]) -> None:
    """Check where a part may end; the rows between the second and the fourth cut were done before."""
    last = part.last
    for cut in cuts[:3]:
        assert not part.shorten((cut.row, cut.at))
    assert part.shorten((cuts[-1].row, cuts[-1].at))
    assert not part.shorten(last)
    read = [block for _ in range(9) if (block := cursor.read(300)) is not None]
    assert not part.shorten((cuts[3].row, cuts[3].at))
    numbers = [number for block in read for number in range(block.start, block.end)]
    assert numbers == [*range(cuts[1].row), *range(cuts[3].row, cuts[-1].row)]
    assert (cursor.ended(), cursor.start, cursor.limit, part.rows) == (True, *[cuts[-1].row] * 3)


def test_a_run_in_which_several_nodes_read_the_input_gives_nothing_away(bench: Bench) -> None:
    """S1: they may be at different rows."""
    bench.give(numbered(4000))
    plan = planned(bench, 2)
    cut = plan.cuts_in(plan.ranges[0])[-1]
    gate: Any = Gate(3)
    nodes = [
        UnifiedNode(name, follow_input=False, writer_config=QUICK)
        .bind_io(plan.part_uri(plan.ranges[0]), f"jsonl://{bench.folder}/{name}.jsonl")
        .set_operator(gate)
        for name in ("one", "two")
    ]
    pipeline = UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=bench.log, streaming=True).create("a")
    run = pipeline.start()
    assert gate.is_there.wait(PATIENCE_SECONDS)
    assert run.ask(GiveAway(cut.row, cut.at), timeout=PATIENCE_SECONDS) is False
    gate.is_open.set()
    assert [node.rows_in for node in pipeline.wait().nodes] == [plan.ranges[0].rows] * 2


class Waiting:
    """The first shard goes on when three have begun, and what it has given away when four have.

    Of each row, it makes `n % 3` children.
    """

    version = "1"

    def __init__(self, begun: Path | None = None) -> None:
        self.begun = begun
        self.has_begun = False

    def process_item(self, item: Any, ctx: Any) -> Any:
        if self.begun is not None and not self.has_begun:
            (self.begun / str(item["n"])).touch()
            if item["n"] < 600:
                eventually(partial(self.are, 4 if item["n"] else 3), "rows are given away")
        self.has_begun = True
        return [{"n": item["n"], "k": k} for k in range(item["n"] % 3)]

    def are(self, count: int) -> bool:
        assert self.begun is not None
        return len(list(self.begun.iterdir())) >= count


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have shards asked as soon as a worker is idle."""
    monkeypatch.setattr(splitter, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(splitter, "AGAIN_SECONDS", 0.05)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("executor", ["threads", pytest.param("local", marks=[pytest.mark.process, pytest.mark.slow])])
def test_a_slow_shard_is_split_and_the_rows_are_those_of_one_run(bench: Bench, executor: str) -> None:
    """R2, C1: in the order of the input, with the ids of one run; the whole, and verify, count each row once."""
    bench.give(numbered(1200))
    bench.pipeline([Waiting(), same], ordered=True).create("one").run()
    begun = bench.folder / "begun"
    begun.mkdir()
    output = f"jsonl://{bench.folder}/two.jsonl"
    line = bench.pipeline([Waiting(begun), same], ordered=True, batch_size=1, output_uri=output)
    who = InThreads(2, gives_away=True) if executor == "threads" else "local"
    pipeline = ShardedPipeline(line, shards=2, executor=who, workers=2, merge="concat").create("two")
    with nothing_left():
        report = pipeline.run(progress=False)
    assert lines(bench.folder / "two.jsonl") == lines(bench.output)
    assert (report.status, report.nodes[0].rows_in, report.nodes[0].total) == ("completed", 1200, 1200)
    whole = Whole.find(RunFolder(bench.results, "two"))
    assert whole is not None
    assert whole.plan is not None
    assert (whole.count, whole.is_done) == (2, True)
    assert len(whole.shards) == len(whole.plan.ranges) > 3
    assert [shard.state["nodes"][0]["rows_in"] for shard in whole.shards] == [each.rows for each in whole.plan.ranges]
    assert findings(whole) == []
    new = [line["new"] for line in bench.log_lines() if line["event"] == "[Shard Split]"]
    assert new == list(range(2, len(whole.shards)))


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_slow_shard_on_a_store_is_split(bench: Bench, s3: S3Bucket) -> None:
    """R2: notes are saved, and the plan is split, by compare-and-swap."""
    bench.give(numbered(1200))
    begun = bench.folder / "begun"
    begun.mkdir()
    line = bench.pipeline([Waiting(begun)], ordered=True, batch_size=1, results_dir=s3.uri("runs"), log_file=None)
    executor = InThreads(2, gives_away=True)
    report = in_shards(line, shards=2, merge="concat", executor=executor).create("two").run(progress=False)
    assert (report.status, report.rows_in) == ("completed", 1200)
    assert [(row["_i"], row["n"]) for row in lines(bench.output)] == [
        (f"{n}_{k}", n) for n in range(1200) for k in range(n % 3)
    ]
    whole = Whole.find(RunFolder(s3.uri("runs"), "two"))
    assert whole is not None
    assert len(whole.shards) > 3
    assert findings(whole) == []


def findings(whole: Whole) -> list[str]:
    account = verify_whole(whole)
    return [*account.findings, *(text for node in account.nodes for text in node.findings)]


ROWS = 400

STEPS = [
    ("worker", "before note"),
    ("worker", "after note"),
    ("both", "before note"),
    ("both", "after note"),
    ("driver", "before plan"),
    ("driver", "after plan"),
    ("driver", "start"),
]


@pytest.mark.process
@pytest.mark.sampled(1, of=4)
@pytest.mark.parametrize(("kill", "at"), STEPS)
def test_who_is_killed_while_a_shard_is_split_loses_nothing_and_doubles_nothing(
    bench: Bench, kill: str, at: str
) -> None:
    """R2, M21: the plan follows what the shard has noted; verify finds nothing, and gather waits for the new shard."""
    bench.give(numbered(ROWS))
    jobs = Jobs(Path(__file__).with_name("steal_job.py"))
    job: dict[str, Any] = {"folder": str(bench.folder), "nap": None, "kill": kill, "at": at}
    status = jobs.run(job)
    assert (bench.folder / "killed").exists()
    folder = RunFolder(bench.results, "a")
    if kill != "worker":
        assert status == -signal.SIGKILL
        eventually(
            lambda: not RunFolder(shards_folder(folder).location, "00000").lock.is_held(), "the worker has ended"
        )
        whole = Whole.find(folder)
        assert whole is not None
        assert len(whole.shards) == (2 if at == "before note" else 3)
        assert findings(whole) == []
        with pytest.raises(RunError, match="cannot be gathered yet"):
            gather(bench.results, "a")
        status = jobs.run(job)
    assert status == 0
    check_rows(bench)


@pytest.mark.process
@pytest.mark.slow
def test_a_note_that_is_lost_with_the_power_is_made_again_as_the_plan_says(bench: Bench) -> None:
    """R2: a run state with fsync="never" may be an older one than the plan, which is always on the medium."""
    bench.give(numbered(ROWS))
    jobs = Jobs(Path(__file__).with_name("steal_job.py"))
    job: dict[str, Any] = {"folder": str(bench.folder), "nap": None, "kill": "driver", "at": "after plan"}
    assert jobs.run(job) == -signal.SIGKILL
    shard = RunFolder(shards_folder(RunFolder(bench.results, "a")).location, "00000")
    eventually(lambda: not shard.lock.is_held(), "the worker has ended")
    run_state = shard.load()
    noted = run_state["nodes"][0].pop("input_end")
    shard.save(run_state)
    assert jobs.run(job) == 0
    assert shard.load()["nodes"][0]["input_end"] == noted
    check_rows(bench)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.sampled(1, of=2)
@pytest.mark.parametrize("seed", range(24))
def test_workers_and_drivers_that_are_killed_while_shards_are_split_lose_nothing(bench: Bench, seed: int) -> None:
    """R2, M21: at any moment, before the first split and after it."""
    chance = random.Random(seed)
    bench.give(numbered(ROWS))
    jobs = Jobs(Path(__file__).with_name("steal_job.py"))
    job: dict[str, Any] = {"folder": str(bench.folder), "nap": 0.02, "kill": "", "at": ""}
    calls, third = bench.folder / "calls", bench.results / "a" / "shards" / "00002"
    is_split_first = chance.random() < 0.5
    for number in range(3):
        pid = jobs.start(job)
        wanted = (calls.stat().st_size if calls.exists() else 0) + chance.randrange(80)
        eventually(partial(_has_grown, calls, wanted))
        if number == 1 or is_split_first:
            eventually(third.exists, "a shard is split")
            time.sleep(chance.random() * 0.3)
        if chance.random() < 0.7:
            for worker in chance.sample(worker_processes(pid), 1):
                os.kill(worker, signal.SIGKILL)
            time.sleep(chance.random() * 0.5)
        jobs.kill(pid)
        eventually(lambda: not any(map(is_worker, jobs.orphans)), "the workers have ended")
        whole = Whole.find(RunFolder(bench.results, "a"))
        assert whole is not None
        assert findings(whole) == []
    assert jobs.run({**job, "nap": 0.0}) == 0
    check_rows(bench)


def _has_grown(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size >= size


def check_rows(bench: Bench) -> None:
    """Check that the rows, their ids and the dead letters are those of a run in peace, and that a shard was split."""
    assert [(row["_i"], row["n"], row["k"]) for row in lines(bench.output)] == [
        (f"{n}_{k}", n, k) for n in range(ROWS) for k in range(n % 3) if n % 20 != 1
    ]
    dead = [
        row["_i"]
        for state in shard_states(bench, "a")
        for row in lines(Path(state["nodes"][0]["output_uri"].removeprefix("jsonl://") + ".errors.jsonl"))
    ]
    assert dead == [n for n in range(ROWS) if n % 20 == 1]
    whole = Whole.find(RunFolder(bench.results, "a"))
    assert whole is not None
    assert whole.driver.status == "completed"
    assert len(whole.shards) > 2
    assert findings(whole) == []
