"""Who watches a run in shards hears of rows that fail, of usage and of stalls in all shards, as of one run."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import DefaultPipelineHooks
from llm_datagen.errors import FailureRecord, OperatorWarning
from llm_datagen.messages import NodeProgressed, RowDeadLettered, Stalled, Subscribe, UsageReported
from llm_datagen.operators import INodeContext
from llm_datagen.shards.local import LocalExecutor
from llm_datagen.shards.passed_events import MAX_WAITING, EventBox

from ..kit.shards import InThreads, in_shards
from ..kit.support import Bench, eventually, numbered


class Failing:
    """Fails each fifth row, and reports a token for each row; and more of them at row 0, while there is a file.

    Args:
        gate: the file.
    """

    version = "1"

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        ctx.report_usage({"provider": "p", "model": "m", "tokens": 1})
        while item["n"] == 0 and self.gate.exists():
            ctx.report_usage({"provider": "p", "model": "m", "tokens": 1})
            time.sleep(0.01)
        if item["n"] % 5 == 0:
            raise ValueError(f"boom {item['n']}")
        return item


class Hooks(DefaultPipelineHooks):
    def __init__(self) -> None:
        self.failed: list[tuple[str, str, str, list[Any]]] = []
        self.tokens = 0.0
        self.models: set[tuple[str, str]] = set()

    def on_node_error(self, pipeline_id: str, node_id: str, error: BaseException, items: list[Any]) -> None:
        self.failed.append((pipeline_id, node_id, repr(error), items))

    def on_usage(self, pipeline_id: str, node_id: str, provider: str, model: str, metrics: Any) -> None:
        self.tokens += metrics["tokens"]
        self.models.add((provider, model))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("executor", ["threads", pytest.param("processes", marks=pytest.mark.process)])
def test_hooks_of_the_whole_hear_of_rows_that_fail_and_of_usage_in_all_shards(bench: Bench, executor: str) -> None:
    bench.give(numbered(20))
    hooks = Hooks()
    runs: Any = InThreads() if executor == "threads" else LocalExecutor(1)
    pipeline = bench.pipeline([Failing(bench.folder / "gate")], on_error="dead_letter", hooks=hooks)
    report = in_shards(pipeline, executor=runs, shards=2).create("a").run(progress=False)
    assert (report.status, report.rows_out, report.nodes[0].dead_letters) == ("completed", 16, 4)
    found = sorted((*failed[:3], [item["n"] for item in failed[3]]) for failed in hooks.failed)
    wanted = [("a", "node_0", f"ValueError('boom {n}')", [n]) for n in (0, 5, 10, 15)]
    assert found == sorted(wanted)
    assert (hooks.tokens, hooks.models) == (20, {("p", "m")})


class Talking:
    """Says something of one row, and changes its own data, which is no good idea."""

    version = "1"

    def __init__(self) -> None:
        self.seen = 0

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.seen += 1
        if item["n"] == 7:
            ctx.log("seven is here", level="warning")
        return item


class Log(DefaultPipelineHooks):
    def __init__(self) -> None:
        self.said: list[tuple[str, str, str, str]] = []

    def on_log(self, pipeline_id: str, node_id: str, level: str, message: str) -> None:
        self.said.append((pipeline_id, node_id, level, message))


@pytest.mark.parametrize("is_watched", [True, False])
def test_what_operators_log_is_heard_of_all_shards_and_named_after_the_shard(bench: Bench, is_watched: bool) -> None:
    bench.give(numbered(20))
    log = Log()
    pipeline = bench.pipeline([Talking()], hooks=log if is_watched else None)
    with pytest.warns(OperatorWarning, match="^operator Talking has state of its own: attribute seen") as warned:
        report = in_shards(pipeline).create("a").run(progress=False)
    assert len(warned) == 5  # one of each shard, which warns in its own process as a rule, and one of the whole
    assert ("a", "node_0", "warning", "shard 1: seven is here") in log.said or not is_watched
    assert len([said for said in log.said if "seven" in said[3]]) == is_watched
    assert report.own_state == {"node_0": ("attribute seen",)}  # as of one run, whoever watches


class Listener:
    def __init__(self) -> None:
        self.messages: list[Any] = []

    def tell(self, message: Any) -> None:
        self.messages.append(message)


@pytest.mark.slow
@pytest.mark.process
def test_who_subscribes_while_shards_run_hears_of_their_rows_from_then_on(bench: Bench) -> None:
    """The worker process runs its shard already: it is told that somebody watches."""
    bench.give(numbered(10))
    gate = bench.folder / "gate"
    gate.touch()
    pipeline = in_shards(
        bench.pipeline([Failing(gate)], on_error="dead_letter", batch_size=1, parallel_size=1),
        executor=LocalExecutor(1),
        shards=1,
    ).create("a")
    ref = pipeline.start()
    first, second = Listener(), Listener()
    ref.tell(Subscribe(first, (NodeProgressed,)))
    ref.tell(Subscribe(second, (RowDeadLettered, UsageReported)))
    eventually(lambda: any(isinstance(each, NodeProgressed) for each in first.messages), "the shard runs")
    eventually(lambda: any(isinstance(each, UsageReported) for each in second.messages), "usage is passed on")
    gate.unlink()
    assert pipeline.wait(60).status == "completed"
    dead = [each for each in second.messages if isinstance(each, RowDeadLettered)]
    assert [(each.pipeline_id, each.node_id, each.failure.kind, each.is_dead_lettered) for each in dead] == [
        ("a", "node_0", "ValueError", True)
    ] * 2
    assert [each.ids for each in dead] == [(0,), (5,)]
    assert {type(each) for each in first.messages} == {NodeProgressed}


def test_nothing_is_passed_on_where_nobody_watches(bench: Bench) -> None:
    bench.give(numbered(20))
    executor = InThreads()
    pipeline = in_shards(bench.pipeline([Failing(bench.folder / "gate")], on_error="skip"), executor=executor)
    pipeline.create("a").run(progress=False)
    assert executor.are_watched == [False] * 4


def test_a_box_sums_usage_and_drops_what_comes_faster_than_it_is_passed_on() -> None:
    box = EventBox(is_open=True)
    for number in range(MAX_WAITING + 5):
        error = ValueError(str(number))
        box.tell(RowDeadLettered("s", "a", (number,), FailureRecord.of(error), True, error, [{"n": number}]))
        box.tell(UsageReported("s", "a", "p", f"m{number % 2}", {"tokens": 2, "cost": 0.5}))
    box.tell(Stalled("s", "a", 9.0, "operator", (1,), 1))
    box.tell(NodeProgressed("s", "a", 1, 2, {}))
    driver = EventBox()
    driver.put(box.take())
    found = [each.unpack("whole", 3) for each in driver.take()]
    assert [each.ids for each in found if isinstance(each, RowDeadLettered)] == [(n,) for n in range(MAX_WAITING)]
    assert [each for each in found if not isinstance(each, RowDeadLettered)] == [
        UsageReported("whole", "a", "p", "m0", {"tokens": 106, "cost": 26.5}),
        UsageReported("whole", "a", "p", "m1", {"tokens": 104, "cost": 26.0}),
    ]
    assert (box.take(), driver.take()) == ([], [])


def test_rows_and_exceptions_that_cannot_be_sent_leave_the_event_without_them() -> None:
    class Local(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("no")

    error = Local("x")
    box = EventBox(is_open=True)
    box.tell(RowDeadLettered("s", "a", (7,), FailureRecord.of(error), False, error, [threading.Lock()]))
    (event,) = [each.unpack("whole", 3) for each in box.take()]
    assert isinstance(event, RowDeadLettered)
    assert (event.ids, event.items, type(event.error).__name__) == ((7,), [], "RemoteError")
