"""Reconfigure: a node gets another concurrency while it runs, and keeps it over a resume (M30)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pykka
import pytest

from llm_datagen import BaseOperator, ConfigError, INodeContext, Status
from llm_datagen.actors.pipeline import PipelineActor
from llm_datagen.messages import Cancel, Pause, Reconfigure, Reconfigured

from ..kit.support import (
    PATIENCE_SECONDS,
    Bench,
    Calls,
    bag,
    eventually,
    lines,
    nothing_left,
    numbered,
    worker_processes,
)


@pytest.fixture(autouse=True)
def no_run_outlives_its_test() -> Iterator[None]:
    """End runs that a failing test has left paused: they would wait forever."""
    yield
    for ref in pykka.ActorRegistry.get_by_class(PipelineActor):
        ref.tell(Cancel("the test is over"))


class Gauge:
    """Says how many calls run at once, in whatever process."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def history(self, since: int = 0) -> list[int]:
        """Return how many calls ran at once after each of their beginnings and ends."""
        running = 0
        seen = []
        for note in self.calls.path.read_text().split():
            running += 1 if note == "+" else -1
            seen.append(running)
        return seen[since:]

    def now(self) -> int:
        """Return how many calls run."""
        return (self.history() or [0])[-1]


class Working(BaseOperator):
    name = "working"

    def __init__(self, calls: Calls, nap: float = 0.02) -> None:
        self.calls = calls
        self.nap = nap


class Items(Working):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.calls.note("+")
        time.sleep(self.nap)
        self.calls.note("-")
        return item


class Batches(Working):
    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        self.calls.note("+")
        time.sleep(self.nap)
        self.calls.note("-")
        return items


class AsyncItems(Working):
    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.calls.note("+")
        await asyncio.sleep(self.nap)
        self.calls.note("-")
        return item


def changed(ref: pykka.ActorRef[Any], **settings: Any) -> Reconfigured:
    """Change the first node."""
    answer = ref.ask(Reconfigure("node_0", **settings), timeout=PATIENCE_SECONDS)
    assert isinstance(answer, Reconfigured)
    return answer


KINDS: dict[str, tuple[Callable[[Calls], Any], tuple[int, int, int], dict[str, Any]]] = {
    "items": (Items, (4, 16, 2), {}),
    "batches": (Batches, (4, 16, 2), {"batch_size": 2}),
    "ordered": (Items, (4, 16, 1), {"ordered": True}),
    "async": (AsyncItems, (4, 16, 2), {}),
    "processes": (Items, (2, 4, 1), {"executor": "process"}),
}


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=(pytest.mark.torture,) if kind == "processes" else ()) for kind in KINDS]
)
def test_the_number_of_calls_at_once_follows(bench: Bench, kind: str) -> None:
    """M30, M10: 4, then 16, then 2; never more than that, and every row once."""
    if kind == "processes":
        pytest.importorskip("cloudpickle")
    make, (before, more, few), settings = KINDS[kind]
    gauge = Gauge(Calls(bench.folder / "calls"))
    bench.give(numbered(3000))
    with nothing_left():
        operator = make(gauge.calls)
        pipeline = bench.pipeline([operator], parallel_size=before, **settings).create("a")
        ref = pipeline.start()
        eventually(lambda: max(gauge.history(), default=0) == before)
        answer = changed(ref, parallel_size=more)
        assert answer == Reconfigured("node_0", more, settings.get("batch_size", 1))
        eventually(lambda: max(gauge.history()) >= more)
        assert max(gauge.history()) == more
        changed(ref, parallel_size=few)
        eventually(lambda: gauge.now() <= few)
        since = len(gauge.history())
        eventually(lambda: len(gauge.history(since)) >= 40)
        assert max(gauge.history(since)) == few
        if kind == "processes":
            eventually(lambda: len(worker_processes()) == few)
        ref.tell(Cancel())
        pipeline.wait(PATIENCE_SECONDS)
    assert bench.run_state("a")["nodes"][0]["parallel_size"] == few
    since = len(gauge.history())
    pipeline.resume("a")
    ref = pipeline.start()
    eventually(lambda: len(gauge.history(since)) >= 20)
    assert max(gauge.history(since)) == few
    changed(ref, parallel_size=more)
    operator.nap = 0.0  # enough is seen (a worker process has its own copy, and naps on)
    report = pipeline.wait(PATIENCE_SECONDS * 4)
    assert report.status is Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(3000))
    said = [line for line in bench.log_lines() if line["event"] == "[Reconfigured]"]
    assert [line["parallel_size"] for line in said] == [more, few, more]


def test_the_items_of_a_batch_count_for_operators_that_take_items(bench: Bench) -> None:
    """M10: batch_size is a factor of the concurrency there, and may be changed."""
    gauge = Gauge(Calls(bench.folder / "calls"))
    bench.give(numbered(1000))
    pipeline = bench.pipeline([Items(gauge.calls)], parallel_size=2).create("a")
    ref = pipeline.start()
    assert changed(ref, batch_size=4) == Reconfigured("node_0", 2, 4)
    eventually(lambda: max(gauge.history(), default=0) == 8)
    pipeline.cancel()
    pipeline.wait(PATIENCE_SECONDS)
    assert bench.run_state("a")["nodes"][0]["batch_size"] == 4


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Reconfigure("node_7", parallel_size=2), "there is no node 'node_7'; the nodes are node_0, node_1"),
        (Reconfigure("node_0"), "nothing to change"),
        (Reconfigure("node_0", parallel_size=0), "parallel_size must be a whole number of at least 1, not 0"),
        (Reconfigure("node_0", batch_size=True), "batch_size must be a whole number of at least 1, not True"),
        (Reconfigure("node_0", parallel_size=2, batch_size=7), "takes batches"),
    ],
)
def test_what_cannot_be_is_refused_with_a_word_and_changes_nothing(
    bench: Bench, order: Reconfigure, words: str
) -> None:
    """M30: the run goes on; the grid of batches, and with it the ids of what is made of them, never changes (M14)."""
    gauge = Gauge(Calls(bench.folder / "calls"))
    bench.give(numbered(100))
    pipeline = bench.pipeline([Batches(gauge.calls, 0.001), Items(gauge.calls, 0.0)], batch_size=3).create("a")
    ref = pipeline.start()
    ref.ask(Pause(), timeout=PATIENCE_SECONDS)  # it must not be over too soon
    with pytest.raises(ConfigError, match=words):
        ref.ask(order, timeout=PATIENCE_SECONDS)
    ref.tell(order)  # nobody hears of it, but the log
    ref.tell(Cancel())
    pipeline.wait(PATIENCE_SECONDS)
    assert [(node["parallel_size"], node["batch_size"]) for node in bench.run_state("a")["nodes"]] == [(1, 3), (1, 3)]
    said = [line["error"] for line in bench.log_lines() if line["event"] == "[Refused]"]
    assert len(said) == 2
    assert words in said[0]
    pipeline.resume("a").run()
    assert len(lines(bench.output)) == 100


def test_a_node_that_has_not_begun_begins_with_the_new_value(bench: Bench) -> None:
    """M30: one node after the other."""
    first, second = (Gauge(Calls(bench.folder / name)) for name in ("first", "second"))
    bench.give(numbered(100))
    pipeline = bench.pipeline([Items(first.calls, 0.002), Items(second.calls, 0.01)]).create("a")
    ref = pipeline.start()
    ref.ask(Reconfigure("node_1", parallel_size=5), timeout=PATIENCE_SECONDS)
    pipeline.wait(PATIENCE_SECONDS)
    assert max(first.history()) == 1
    assert max(second.history()) == 5
    assert bench.run_state("a")["nodes"][1]["parallel_size"] == 5


@pytest.mark.slow
def test_a_rate_holds_is_changed_and_taken_off_while_it_runs_and_is_kept_over_a_resume(bench: Bench) -> None:
    """M30: lower bounds of the time only, so that a busy machine cannot fail it."""
    gauge = Gauge(Calls(bench.folder / "calls"))
    bench.give(numbered(3000))
    began = time.monotonic()
    pipeline = bench.pipeline([Items(gauge.calls, 0.0)], parallel_size=8, rate=100.0).create("a")
    ref = pipeline.start()
    eventually(lambda: len(gauge.history()) >= 80)
    assert time.monotonic() - began >= (40 - 6) / 100
    assert changed(ref, rate=20) == Reconfigured("node_0", 8, 1, 20)
    began, since = time.monotonic(), len(gauge.history())
    eventually(lambda: len(gauge.history(since)) >= 36)
    assert time.monotonic() - began >= (18 - 8 - 2) / 20  # 8 may have been in flight
    ref.ask(Pause(), timeout=PATIENCE_SECONDS)
    with pytest.raises(ConfigError, match="rate must be a positive number of rows a second, not -1"):
        changed(ref, rate=-1)
    ref.tell(Cancel())
    pipeline.wait(PATIENCE_SECONDS)
    assert bench.run_state("a")["nodes"][0]["rate"] == 20
    pipeline.resume("a")
    began, since = time.monotonic(), len(gauge.history())
    ref = pipeline.start()
    eventually(lambda: len(gauge.history(since)) >= 24)
    assert time.monotonic() - began >= (12 - 2) / 20
    assert changed(ref, rate=0).rate is None
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status is Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(3000))
