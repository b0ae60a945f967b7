"""Operators that hang and disks that freeze: runs end all the same (grace), and say what they wait for (M7, M10)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from llm_datagen import INodeContext, MemoryStream, NodeFailedError, RunReport, Status
from llm_datagen.actors.node import NodeActor
from llm_datagen.executors import event_loop
from llm_datagen.messages import GetStatus, Stalled, Subscribe
from llm_datagen.runs.status import NodeReport
from llm_datagen.testing import Fault, RecordingHooks, inject

from ..kit.actors import SteppingClock, go_by
from ..kit.support import PATIENCE_SECONDS, Bench, bag, eventually, lines, numbered, until_cancelled
from .helpers import PoisonError, accounts_of, check_counts, double, some_children

GRACE = 0.1


class Hang:
    """Lets an operator hang at some rows until it is let go."""

    def __init__(self, *rows: int) -> None:
        self.rows = rows
        self.hanging: list[int] = []
        self.gate = threading.Event()

    def at(self, row: Any) -> bool:
        """Return whether to hang."""
        if row["n"] in self.rows and not self.gate.is_set():
            self.hanging.append(row["n"])
            return True
        return False

    def plain(self, row: Any) -> Any:
        if self.at(row):
            self.gate.wait()
        return row

    async def waiting(self, row: Any) -> Any:
        if self.at(row):
            await asyncio.sleep(3600)
        return row

    async def stubborn(self, row: Any) -> Any:
        """Does not let itself be cancelled."""
        if self.at(row):
            while not self.gate.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
        return row

    async def blocking(self, row: Any) -> Any:
        """Blocks the loop, and with it all calls."""
        await asyncio.sleep(0)
        return self.plain(row)

    async def threaded(self, row: Any) -> Any:
        return await asyncio.to_thread(self.plain, row)


@pytest.fixture
def hang(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hang]:
    """Something that hangs, and is let go at the end, so that no thread is left."""
    monkeypatch.setattr(event_loop, "GIVE_UP_SECONDS", 0.1)
    hang = Hang(7)
    yield hang
    hang.gate.set()
    no_thread_left()


def no_thread_left() -> None:
    eventually(lambda: not [one for one in threading.enumerate() if one.name.startswith("datagen-")])


STYLES = ["plain", "waiting", "stubborn", "blocking", "threaded"]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("style", STYLES)
def test_a_cancelled_run_does_not_wait_longer_than_its_grace(
    bench: Bench, hang: Hang, style: str, ordered: bool
) -> None:
    """M7: the call that hangs is given up: its row is not done, nothing is sealed, and a resume does it."""
    bench.give(numbered(30))
    pipeline = bench.pipeline([getattr(hang, style), double], parallel_size=2, grace=GRACE, ordered=ordered).create("a")
    pipeline.start()
    eventually(lambda: hang.hanging)
    pipeline.cancel("enough")
    report = pipeline.wait(PATIENCE_SECONDS)
    assert (report.status, report.reason, report.failed) == (Status.CANCELED, "enough", 0)
    assert 7 not in [row["n"] for row in lines(bench.between("a"))]
    assert not list(bench.folder.rglob("*.done"))
    (line,) = [line for line in bench.log_lines() if line["event"] == "[Grace Over]"]
    assert "7" in line["ids"]
    accounts_of(bench)

    hang.gate.set()
    no_thread_left()  # what a call that was given up returns at last goes nowhere
    assert 7 not in [row["n"] for row in lines(bench.between("a"))]
    report = pipeline.resume("a").run()
    assert bag(lines(bench.output)) == bag({"n": 2 * n, "_i": n} for n in range(30))
    check_counts(bench, report)


@pytest.mark.parametrize("style", ["plain", "waiting"])
def test_a_failure_does_not_wait_longer_than_the_grace_either(bench: Bench, hang: Hang, style: str) -> None:
    """M24, F1: and it is the failure that is told."""
    bench.give(numbered(20))
    hang.rows = (0,)
    act = getattr(hang, style)

    def plain(row: Any) -> Any:
        if row["n"] == 1:
            eventually(lambda: hang.hanging)
            raise PoisonError("one")
        return act(row)

    async def later(row: Any) -> Any:
        if row["n"] == 1:
            raise PoisonError("one")
        return await act(row)

    pipeline = bench.pipeline([plain if style == "plain" else later], parallel_size=2, grace=GRACE).create("a")
    with pytest.raises(NodeFailedError, match="PoisonError: one"):
        pipeline.run()
    assert bench.run_state("a")["status"] == "failed"


def test_a_call_that_ends_within_the_grace_is_saved(bench: Bench) -> None:
    """M7: what is dispatched ends, and is committed; nothing is said of any grace."""
    bench.give(numbered(20))
    here = threading.Event()

    def work(row: Any, ctx: INodeContext) -> Any:
        if row["n"] == 7:
            here.set()
            until_cancelled(ctx)
        return row

    pipeline = bench.pipeline([work], grace=60).create("a")
    pipeline.start()
    assert here.wait(PATIENCE_SECONDS)
    pipeline.cancel()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report is not None
    assert report.status == Status.CANCELED
    assert [row["n"] for row in lines(bench.output)] == list(range(8))
    assert "[Grace Over]" not in bench.log.read_text()


PROGRAM = """
import asyncio, sys, threading, time
from llm_datagen import UnifiedPipeline

style, folder = sys.argv[1:]
hanging = threading.Event()

def plain(row):
    hanging.set()
    threading.Event().wait()

async def blocking(row):
    plain(row)

async def threaded(row):
    await asyncio.to_thread(plain, row)

pipeline = UnifiedPipeline(
    [globals()[style]], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", grace=0.1,
    base_path=folder, results_dir=folder + "/results", log_file=None,
)
pipeline.create("a").start()
hanging.wait()
pipeline.cancel()
print(pipeline.wait().status)
"""


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("style", ["plain", "blocking", "threaded"])
def test_a_call_that_never_returns_does_not_keep_the_process(bench: Bench, style: str) -> None:
    """M25: when the run has given it up, the program can end."""
    bench.give(numbered(3))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, style, str(bench.folder)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "canceled\n", "")


SIGNALLED = """
import os, sys, threading, time
from llm_datagen import UnifiedPipeline

number, folder = int(sys.argv[1]), sys.argv[2]

def work(row):
    if row["n"] == 2:
        os.kill(os.getpid(), number)
        threading.Event().wait()
    time.sleep(0.01)  # so that each row has a task of its own
    return row

UnifiedPipeline(
    [work], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", grace=0.1,
    base_path=folder, results_dir=folder + "/results", log_file=None,
).create("a").run()
print("went on")
"""


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_after_one_signal_a_process_ends_when_the_grace_is_over(bench: Bench, number: int, code: int) -> None:
    """M7, M25: what was done is saved, the call that hangs is given up, and nobody has to send a second one."""
    bench.give(numbered(5))
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number)), str(bench.folder)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert [row["n"] for row in lines(bench.output)] == [0, 1]
    assert not bench.is_sealed()
    assert (bench.run_state("a")["status"], bench.run_state("a")["reason"]) == ("canceled", signal.Signals(number).name)


# --- noticing that nothing moves ---------------------------------------------------------------------------------

STALL = 0.6
"""Seconds of real time without movement: far more than a call takes here, also on a busy machine."""


class Hours(SteppingClock):
    """The nodes' time: it passes when a test says so, and never while a node has something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[NodeActor] = []

    def pass_by(self, seconds: float) -> None:
        """Let time pass, a thousandth more for sums that are rounded; wait until each node has looked at it."""
        self._rest()
        self.advance(seconds * 1.001)
        self._rest()

    def _rest(self) -> None:
        for ref in pykka.ActorRegistry.get_by_class(NodeActor):
            self.settle(ref)


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    """The clock that all nodes go by."""
    hours, begin = Hours(), NodeActor.__init__

    def note(node: NodeActor, *args: Any, **settings: Any) -> None:
        begin(node, *args, **settings)
        hours.nodes.append(node)

    go_by(hours, NodeActor, monkeypatch)
    monkeypatch.setattr(NodeActor, "__init__", note)
    return hours


class Watch:
    """Watches a run: what stalls, and what its status says."""

    def __init__(self, bench: Bench, operators: list[Any], **settings: Any) -> None:
        self.bench = bench
        self.hooks = RecordingHooks()
        self.pipeline = bench.pipeline(operators, hooks=self.hooks, **{"stall_after": STALL, **settings}).create("a")
        self.ref = self.pipeline.start()

    def node(self, number: int = 0) -> NodeReport:
        """Return what the status says of a node."""
        status: Any = self.ref.ask(GetStatus(), timeout=PATIENCE_SECONDS)
        report: NodeReport = status.nodes[number]
        return report

    def stalls(self, waits_on: str) -> list[dict[str, Any]]:
        """Wait for stalls of a kind; what the hook and the log say of them must be the same.

        On a machine that stands still for a moment, there may be others before.
        """

        def told() -> list[tuple[str, str, dict[str, Any]]]:
            return [
                (cid, nid, dict(info)) for cid, nid, info in self.hooks.of("on_stall") if info["waits_on"] == waits_on
            ]

        def said() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["waits_on"] == waits_on]

        stalls, entries = eventually(lambda: (a := told()) and len(a) == len(b := said()) and (a, b))
        for (cid, nid, info), line in zip(stalls, entries, strict=True):
            assert (cid, nid) == ("a", line["node_id"])
            assert info["in_flight"] == line["in_flight"]
            assert [str(row_id) for row_id in info["ids"]] == line["ids"]
            assert round(info["seconds"], 3) == line["seconds"]
            assert info["seconds"] >= STALL
        return [info for _, _, info in stalls]

    def waits_on(self, hours: Hours) -> str:
        """Return what the only node that runs waits for now."""
        return hours.nodes[0]._waits_on() if hours.nodes else ""

    def stall_at(self, node_id: str, row_id: str) -> dict[str, Any]:
        """Wait for the stall of a node at a row, and return it. On a busy machine others may come before it."""

        def told() -> list[dict[str, Any]]:
            told = [(nid, dict(info)) for _, nid, info in self.hooks.of("on_stall")]
            return [info for nid, info in told if (nid, info["ids"]) == (node_id, (row_id,))]

        stall: dict[str, Any] = eventually(told)[0]
        assert stall["seconds"] >= STALL
        eventually(lambda: [row_id] in [line["ids"] for line in self.lines() if line["node_id"] == node_id])
        return stall

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines of stalls."""
        return [line for line in self.bench.log_lines() if line["event"] == "[Stalled]"]

    def is_shown(self, number: int = 0) -> str | None:
        """Return what the status and the run state say of a node's stall, when they agree; else None."""
        shown = self.node(number).stalled
        return shown if self.bench.run_state("a")["nodes"][number]["stalled"] == shown else None

    def clears(self, hours: Hours, number: int = 0) -> None:
        """Let the node see that something moves: neither the status nor the run state speaks of a stall any more."""
        hours.pass_by(STALL / 4)
        eventually(lambda: self.node(number).stalled is None)
        eventually(lambda: self.bench.run_state("a")["nodes"][number]["stalled"] is None)
        assert self.node(number).status == Status.RUNNING

    def end(self) -> RunReport:
        """Wait for the end."""
        report = self.pipeline.wait(PATIENCE_SECONDS)
        assert all(node.stalled is None for node in report.nodes)
        return report


class Naps:
    """Goes on slowly, and stops at row 100 until it is told to hurry. Calls that take so long have a task each."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.hurry = threading.Event()

    def __call__(self, row: Any) -> Any:
        self.hurry.wait(0.02 if row["n"] < 100 else PATIENCE_SECONDS)
        return self.act(row)

    async def later(self, row: Any) -> Any:
        """Do the same, on the event loop."""
        await asyncio.sleep(0 if self.hurry.is_set() else 0.02)
        while row["n"] >= 100 and not self.hurry.is_set():
            await asyncio.sleep(0.001)
        found = self.act(row)
        return await found if inspect.isawaitable(found) else found


@pytest.mark.parametrize("style", ["plain", "stubborn"])
def test_an_operator_that_hangs_is_noticed_once(bench: Bench, hours: Hours, hang: Hang, style: str) -> None:
    """M27: one line, one call of the hook, with the rows in flight; the status says it, until something moves again."""
    bench.give(numbered(300))
    slow = Naps(getattr(hang, style))
    watch = Watch(bench, [slow if style == "plain" else slow.later], streaming=True)
    eventually(lambda: hang.hanging)
    hours.pass_by(STALL)
    (stall,) = watch.stalls("operator")
    assert stall["ids"] == (7,)
    assert stall["in_flight"] == 1
    shown = eventually(watch.is_shown)
    assert "waits on operator; 1 rows in flight: 7" in shown
    for _ in range(12):
        hours.pass_by(STALL / 4)
    assert len(watch.lines()) == len(watch.stalls("operator")) == 1, "it is said once"
    hang.gate.set()
    done = watch.node().rows_out
    eventually(lambda: watch.node().rows_out > done)
    watch.clears(hours)
    slow.hurry.set()
    assert watch.end().status == Status.COMPLETED
    assert len(watch.lines()) == 1


def test_a_second_stall_is_noticed_as_well(bench: Bench, hours: Hours) -> None:
    """M27: each is told, by the node that hangs, with its rows' own ids."""
    bench.give(numbered(40))
    first, second = Hang(3), Hang(6)
    work = Naps(lambda row: second.plain(first.plain(row)))
    watch = Watch(bench, [some_children, work], streaming=True)
    try:
        for hang, row_id in ((first, "2_1"), (second, "6_0")):
            eventually(lambda hang=hang: hang.hanging)  # type: ignore[misc]
            hours.pass_by(STALL / 4)  # in which the node sees that an earlier stall is over
            hours.pass_by(STALL)
            stall = watch.stall_at("node_1", row_id)
            assert (stall["waits_on"], stall["in_flight"]) == ("operator", 1)
            hang.gate.set()
    finally:
        work.hurry.set()
        first.gate.set()
        second.gate.set()
    watch.end()


def test_at_most_ten_rows_in_flight_are_named(bench: Bench, hours: Hours) -> None:
    """M27: and how many there are is told."""
    bench.give(numbered(50))
    hang = Hang(*range(50))
    watch = Watch(bench, [hang.plain], parallel_size=16, stall_after=3600)
    try:
        while len(hang.hanging) < 16:  # rows that were given to one worker are given to others when it is late
            hours.pass_by(0.1)
        hours.pass_by(3600)
        (stall,) = watch.stalls("operator")
        assert (stall["ids"], stall["in_flight"]) == (tuple(range(10)), 16)
    finally:
        hang.gate.set()
    watch.end()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "settings",
    [
        {"writer_config": {"async_mode": False}},
        {"writer_config": {"async_mode": False}, "ordered": True, "parallel_size": 2},
        {"writer_config": {"queue_size": 2, "flush_batch_size": 1}, "parallel_size": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_async", [True, False])
def test_a_writer_that_is_frozen_is_noticed(
    bench: Bench, hours: Hours, settings: dict[str, Any], is_async: bool
) -> None:
    """M20, M27: the workers wait for the disk, and the node says so; when it thaws, all goes on."""
    bench.give(numbered(200))
    slow = Naps(double)
    with inject(Fault(operation="write", path="*out.jsonl", hit=3, action="delay", seconds=600)) as disk:
        watch = Watch(bench, [slow.later if is_async else slow], **settings)
        eventually(lambda: sum(hit.operation == "write" and hit.path.endswith("out.jsonl") for hit in disk.hits) == 3)
        eventually(lambda: watch.waits_on(hours) == "writer")
        hours.pass_by(STALL)
        (stall,) = watch.stalls("writer")
        assert stall["in_flight"] >= 1
        assert "waits on writer" in eventually(watch.is_shown)
        done = watch.node().rows_out
        disk.thaw()
        eventually(lambda: watch.node().rows_out > done)
        watch.clears(hours)
        slow.hurry.set()
        report = watch.end()
    assert bag(lines(bench.output)) == bag({"n": 2 * n, "_i": n} for n in range(200))
    check_counts(bench, report)


def test_a_source_that_gives_nothing_is_noticed(bench: Bench, hours: Hours) -> None:
    """M18, M27: then the node waits for what is upstream, with nothing in flight."""
    source = MemoryStream("memory://slow-source")
    source.delete()
    slow = Naps(double)
    try:
        sink = source.sink()
        sink.append(b'{"n":0}\n', rows=1)
        watch = Watch(bench, [slow, double], input_uri="memory://slow-source", follow_input=True)
        eventually(lambda: watch.node().rows_out == 1 and watch.waits_on(hours) == "upstream")
        hours.pass_by(STALL)
        (stall,) = watch.stalls("upstream")
        assert (stall["ids"], stall["in_flight"]) == ((), 0)
        assert "waits on upstream; 0 rows in flight" in eventually(watch.is_shown)
        done = watch.node().rows_out
        sink.append(b"".join(b'{"n":%d}\n' % n for n in range(1, 300)), rows=299)
        eventually(lambda: watch.node().rows_out > done)
        watch.clears(hours)
        slow.hurry.set()
        sink.seal()
        assert watch.end().rows_out == 300
    finally:
        source.delete()


def test_what_a_node_waited_for_is_not_shown_any_more_when_it_waits_for_something_else(
    bench: Bench, hours: Hours
) -> None:
    """M27: rows that come are a movement, though none is done yet; the next stall is another one."""
    source = MemoryStream("memory://late-source")
    source.delete()
    hang = Hang(0)
    try:
        sink = source.sink()
        watch = Watch(bench, [hang.plain], input_uri="memory://late-source", follow_input=True)
        eventually(lambda: watch.waits_on(hours) == "upstream")
        hours.pass_by(STALL)
        assert watch.stalls("upstream")
        assert eventually(lambda: watch.node().stalled)
        sink.append(b'{"n":0}\n', rows=1)
        eventually(lambda: hang.hanging)
        watch.clears(hours)
        assert not bench.output.exists() or not bench.output.read_bytes()
        hours.pass_by(STALL)
        assert watch.stalls("operator")[-1]["ids"] == (0,)
        hang.gate.set()
        sink.seal()
        assert watch.end().rows_out == 1
    finally:
        hang.gate.set()
        source.delete()


def test_a_node_that_moves_slowly_is_not_stalled(bench: Bench, hours: Hours) -> None:
    """M27: however long it takes as a whole; nor is one that has nothing to do, because it has ended."""
    bench.give(numbered(10))
    begun, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def work(row: Any) -> Any:
        begun.release()
        assert go_on.acquire(timeout=PATIENCE_SECONDS)
        return row

    watch = Watch(bench, [double, Naps(work)], streaming=True)
    for _ in range(10):
        assert begun.acquire(timeout=PATIENCE_SECONDS)
        hours.pass_by(STALL * 0.6)
        go_on.release()
    assert watch.end().status == Status.COMPLETED
    assert watch.hooks.of("on_stall") == []
    assert watch.lines() == []


def test_subscribers_hear_of_stalls(bench: Bench, hours: Hours, hang: Hang) -> None:
    """M30: an event like the others."""
    bench.give(numbered(10))
    heard: list[Any] = []

    class Ears(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            heard.append(message)

    pipeline = bench.pipeline([Naps(hang.plain)], stall_after=STALL).create("a")
    ref = pipeline.start()
    ears = Ears.start()
    ref.tell(Subscribe(ears))
    try:
        eventually(lambda: hang.hanging)
        hours.pass_by(STALL)
        (stalled,) = eventually(lambda: [one for one in heard if isinstance(one, Stalled)])
        assert (stalled.pipeline_id, stalled.node_id, stalled.waits_on, stalled.ids) == (
            "a",
            "node_0",
            "operator",
            (7,),
        )
    finally:
        hang.gate.set()
        pipeline.wait(PATIENCE_SECONDS)
        ears.stop()
