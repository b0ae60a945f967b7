"""Pause: no call of an operator begins after the answer. Unpause goes on (M30)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pykka
import pytest

from llm_datagen import BaseOperator, INodeContext, PipelineStatus, Status
from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.actors.supervisor import SupervisorActor
from llm_datagen.executors.retry import Retries
from llm_datagen.messages import Cancel, GetStatus, Pause, PipelineFinished, Stalled, Subscribe, Unpause
from llm_datagen.shards.supervisor import ShardSupervisor

from ..kit.shards import InThreads, in_shards
from ..kit.support import PATIENCE_SECONDS, Bench, Calls, bag, eventually, lines, nothing_left, numbered, until_paused
from .listening import Listener

ROWS = 400


@pytest.fixture(autouse=True)
def no_run_outlives_its_test() -> Iterator[None]:
    """End runs that a failing test has left paused: they would wait forever."""
    yield
    for ref in pykka.ActorRegistry.get_by_class(PipelineActor):
        ref.tell(Cancel("the test is over"))


class Counted(BaseOperator):
    """Notes each row durably when its call begins; then naps."""

    name = "counted"

    def __init__(self, calls: Calls, nap: float, hold_at: int = -1) -> None:
        self.calls = calls
        self.nap = nap
        self.hold_at = hold_at

    def note(self, item: Any, ctx: INodeContext) -> None:
        """Note the call; that of row `hold_at` goes on when the run is paused, so that it is not over before."""
        self.calls.note(item["n"])
        if item["n"] == self.hold_at:
            until_paused(ctx)


class Items(Counted):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.note(item, ctx)
        time.sleep(self.nap)
        return item


class Batches(Counted):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        for item in items:
            self.note(item, ctx)
        time.sleep(self.nap)
        return items


class AsyncItems(Counted):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.note(item, ctx)
        await asyncio.sleep(self.nap)
        return item


class AsyncBatches(Counted):
    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        for item in items:
            self.note(item, ctx)
        await asyncio.sleep(self.nap)
        return items


KINDS: dict[str, tuple[Callable[[Calls, float, int], Any], float, dict[str, Any]]] = {
    "cheap items": (Items, 0.0, {}),
    "slow items": (Items, 0.01, {}),
    "batches": (Batches, 0.01, {"batch_size": 3}),
    "ordered": (Items, 0.005, {"ordered": True}),
    "at most once": (Items, 0.005, {"delivery": "at_most_once"}),
    "async items": (AsyncItems, 0.01, {}),
    "async batches": (AsyncBatches, 0.01, {"batch_size": 3}),
    "processes": (Items, 0.005, {"executor": "process"}),
    "cheap in processes": (Items, 0.0, {"executor": "process"}),
}


def asked(ref: pykka.ActorRef[Any], order: Any) -> PipelineStatus:
    """Ask a run; the reply is its status."""
    status = ref.ask(order, timeout=PATIENCE_SECONDS)
    assert isinstance(status, PipelineStatus)
    return status


def paused(ref: pykka.ActorRef[Any]) -> PipelineStatus:
    """Pause a run."""
    status = asked(ref, Pause())
    assert status.paused
    return status


OFTEN = ("slow items", "cheap items", "async items", "processes")
"""Kinds that are looked at in every run of the suite, each for half a second; the others in its long form."""


def _kinds() -> list[Any]:
    return [
        pytest.param(kind, streaming, marks=() if kind in OFTEN and streaming else (pytest.mark.torture,))
        for kind in KINDS
        for streaming in (True, False)
    ]


@pytest.mark.sampled(1, of=6)
@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(("kind", "streaming"), _kinds())
def test_no_call_begins_after_the_answer_until_it_goes_on(bench: Bench, kind: str, streaming: bool) -> None:
    """M30, M21: what was handed out and not called is given back; no row is lost, none is called twice."""
    if kind.endswith("processes"):
        pytest.importorskip("cloudpickle")
    make, nap, settings = KINDS[kind]
    rows = ROWS if nap else 10 * ROWS
    bench.give(numbered(rows))
    calls = [Calls(bench.folder / "first"), Calls(bench.folder / "second")]
    heard: list[Any] = []
    listener = Listener.start(heard)
    with nothing_left():
        pipeline = bench.pipeline(
            [make(each, nap, hold_at) for each, hold_at in zip(calls, (30, -1), strict=True)],
            streaming=streaming,
            parallel_size=2 if kind.endswith("processes") else 4,
            stall_after=0.2 if nap else 300.0,
            **settings,
        ).create("a")
        ref = pipeline.start()
        ref.tell(Subscribe(listener, (Stalled, PipelineFinished)))
        eventually(lambda: calls[0].all()["30"])
        paused(ref)
        made = [each.path.read_text() for each in calls]
        listener.ask("what was told before has come", timeout=PATIENCE_SECONDS)
        del heard[:]
        time.sleep(0.5)
        assert [each.path.read_text() for each in calls] == made
        assert not heard
        status = asked(ref, GetStatus())
        assert (status.status, status.paused) == (Status.RUNNING, True)
        assert bench.run_state("a")["paused"]
        assert not asked(ref, Unpause()).paused
        report = pipeline.wait(PATIENCE_SECONDS)
    eventually(lambda: heard and isinstance(heard[-1], PipelineFinished))
    listener.stop()
    assert report is not None
    assert (report.status, report.paused) == (Status.COMPLETED, False)
    assert not bench.run_state("a")["paused"]
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(rows))
    assert [set(each.all().values()) for each in calls] == [{1}, {1}]
    said = [line["event"] for line in bench.log_lines()]
    assert (said.count("[Paused]"), said.count("[Unpaused]")) == (1, 1)


class Blocked(BaseOperator):
    """Waits in each call until the test lets it go."""

    name = "blocked"

    def __init__(self) -> None:
        self.begun = 0
        self.go_on = threading.Event()

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.begun += 1
        self.go_on.wait(PATIENCE_SECONDS)
        return item


def test_the_answer_does_not_wait_for_calls_that_run_and_they_are_saved(bench: Bench) -> None:
    """M30: every worker is blocked; the rows of calls that end while the run is paused are committed."""
    bench.give(numbered(10))
    operator = Blocked()
    pipeline = bench.pipeline([operator], parallel_size=3).create("a")
    ref = pipeline.start()
    eventually(lambda: operator.begun == 3)
    paused(ref)
    paused(ref)  # again is no error
    operator.go_on.set()
    eventually(lambda: asked(ref, GetStatus()).nodes[0].rows_in == 3)
    assert operator.begun == 3
    ref.tell(Unpause())
    pipeline.wait(PATIENCE_SECONDS)
    assert [row["n"] for row in sorted(lines(bench.output), key=lambda row: int(row["n"]))] == list(range(10))


class TwoSteps(Counted):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.calls.note("first")
        while not ctx.is_paused():
            time.sleep(0.01)
        self.calls.note("paused")
        while ctx.is_paused():
            time.sleep(0.01)
        return item


@pytest.mark.parametrize("shards", [None, 1])
def test_who_has_the_answer_to_a_command_gets_a_status_that_knows_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, shards: int | None
) -> None:
    """M30: also while the supervisor has not come to its next report."""
    bench.give(numbered(2))
    go_on = threading.Event()

    def wait(*_: Any, **__: Any) -> None:
        assert go_on.wait(PATIENCE_SECONDS)

    calls = Calls(bench.folder / "calls")
    pipeline: Any = bench.pipeline([Items(calls, 0.0, hold_at=0)])
    if shards:
        pipeline = in_shards(pipeline, shards=shards, executor=InThreads(1))
    ref = pipeline.create("a").start()
    eventually(lambda: calls.all()["0"])
    for cls, method in ((SupervisorActor, "_changed"), (ShardSupervisor, "_tick")):
        monkeypatch.setattr(cls, method, wait)
    assert asked(ref, Pause()).paused
    assert asked(ref, GetStatus()).paused
    monkeypatch.undo()
    go_on.set()
    assert not asked(ref, Unpause()).paused
    assert not asked(ref, GetStatus()).paused
    assert pipeline.wait(PATIENCE_SECONDS).status is Status.COMPLETED


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_call_sees_that_the_run_is_paused_and_that_it_goes_on(bench: Bench, executor: str) -> None:
    if executor == "process":
        pytest.importorskip("cloudpickle")
    bench.give(numbered(1))
    calls = Calls(bench.folder / "calls")
    pipeline = bench.pipeline([TwoSteps(calls, 0.0)], executor=executor).create("a")
    ref = pipeline.start()
    eventually(lambda: calls.all()["first"])
    paused(ref)
    eventually(lambda: calls.all()["paused"])
    asked(ref, Unpause())
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.nodes[0].rows_out == 1


def test_a_node_that_begins_while_the_run_is_paused_makes_no_call(bench: Bench) -> None:
    """M30: one node after the other: the first one ends with the call that was running."""
    bench.give(numbered(1))
    first, second = Blocked(), Blocked()
    second.go_on.set()
    pipeline = bench.pipeline([first, second]).create("a")
    ref = pipeline.start()
    eventually(lambda: first.begun)
    paused(ref)
    first.go_on.set()
    eventually(lambda: asked(ref, GetStatus()).nodes[1].status is Status.RUNNING)
    paused(ref)
    time.sleep(0.2)
    assert not second.begun
    ref.tell(Unpause())
    pipeline.wait(PATIENCE_SECONDS)
    assert lines(bench.output) == [{"n": 0, "_i": 0}]


class SlowToSetUp(Blocked):
    """Waits in its setup, not in its calls."""

    def setup(self) -> None:
        assert self.go_on.wait(PATIENCE_SECONDS)


def test_the_answer_does_not_wait_for_a_setup_and_no_call_follows_it(bench: Bench) -> None:
    """M30: within a second, whatever the operators do."""
    bench.give(numbered(5))
    operator = SlowToSetUp()
    pipeline = bench.pipeline([operator]).create("a")
    ref = pipeline.start()
    paused(ref)
    assert not operator.go_on.is_set()
    operator.go_on.set()
    time.sleep(0.3)
    assert operator.begun == 0
    ref.tell(Unpause())
    pipeline.wait(PATIENCE_SECONDS)
    assert operator.begun == 5


class Failing(Counted):
    """Fails at the first call of a row."""

    def attempt(self, item: Any) -> Any:
        self.calls.note(item["n"])
        if item["n"] == 2 and self.calls.all()["2"] == 1:
            raise ValueError("once")
        return item


class FailingItems(Failing):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.attempt(item)


class FailingAsync(Failing):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.attempt(item)


@pytest.mark.parametrize("make", [FailingItems, FailingAsync])
def test_a_wait_before_a_retry_ends_with_a_pause(
    bench: Bench, make: Callable[[Calls, float], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """M24, M30: the row is handed back; after Unpause it is called anew. The wait alone would take an hour."""
    monkeypatch.setattr(Retries, "pause_after", lambda self, attempts: 3600.0 if attempts <= 1 else None)
    bench.give(numbered(5))
    calls = Calls(bench.folder / "calls")
    pipeline = bench.pipeline([make(calls, 0.0)], retries=1).create("a")
    ref = pipeline.start()
    eventually(lambda: calls.all()["2"] == 1)
    paused(ref)
    assert calls.all()["2"] == 1
    ref.tell(Unpause())
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status is Status.COMPLETED
    assert calls.all()["2"] == 2


def test_a_paused_run_can_be_cancelled_and_resumed(bench: Bench) -> None:
    """M7, M30: Cancel counts more than Pause; a resume is not paused."""
    bench.give(numbered(ROWS))
    calls = Calls(bench.folder / "calls")
    with nothing_left():
        pipeline = bench.pipeline([Items(calls, 0.002, hold_at=30)], parallel_size=3).create("a")
        ref = pipeline.start()
        eventually(lambda: calls.all()["30"])
        paused(ref)
        made = calls.all()
        ref.tell(Cancel("enough"))
        ref.tell(Unpause())
        report = pipeline.wait(PATIENCE_SECONDS)
    assert report is not None
    assert (report.status, report.reason, report.paused) == (Status.CANCELED, "enough", False)
    assert calls.all() == made
    pipeline.resume("a").run()
    assert len(lines(bench.output)) == ROWS
    assert set(calls.all().values()) == {1}


def test_whoever_asks_when_the_run_has_ended_hears_so(bench: Bench) -> None:
    """M30: nobody waits for an answer that will not come."""
    bench.give(numbered(1))
    pipeline = bench.pipeline([lambda row: row]).create("a")
    ref = pipeline.start()
    pipeline.wait(PATIENCE_SECONDS)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask(Pause(), timeout=PATIENCE_SECONDS)
