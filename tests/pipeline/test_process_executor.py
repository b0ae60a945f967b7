"""Pipelines whose operators run in worker processes: the same rows, the same guarantees, the same words."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    FunctionOperator,
    INodeContext,
    MemoryStream,
    NodeFailedError,
    UnifiedNode,
    WorkerDiedError,
)
from llm_datagen.testing import CallCounter, RecordingHooks, crash_at

from ..kit.support import Bench, Calls, bag, eventually, lines, numbered, stored, worker_processes


def double(row: Any) -> Any:
    return {"n": 2 * row["n"]}


def copy(row: Any) -> Any:
    return dict(row)


def odd(row: Any) -> Any:
    return row if row["n"] % 2 else None


def fan(row: Any) -> Any:
    return [{"n": row["n"], "k": k} for k in range(row["n"] % 4)]


class Pairs(BaseOperator):
    """Takes batches; returns a flat list that says where its rows are from."""

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [{"_i": item["_i"], "n": item["n"], "of": len(items)} for item in reversed(items)]


class Total(BaseOperator):
    """Makes one row of a batch."""

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [{"sum": sum(item["n"] for item in items), "of": len(items)}]


SHAPES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "streaming 1:N": ([odd, fan], {"streaming": True}),
    "batches, in order": ([Pairs()], {"batch_size": 7, "ordered": True}),
    "sums": ([double, Total()], {"batch_size": 3, "ordered": True}),
    "numeric": ([fan], {"id_scheme": "numeric"}),
    "sync": ([odd, double], {"streaming": True, "writer_config": {"async_mode": False}}),
}


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("name", SHAPES)
def test_processes_make_the_rows_that_threads_make(bench: Bench, name: str) -> None:
    """M10, M12, M14: with their ids, and in order where it is kept."""
    operators, settings = SHAPES[name]
    bench.give(numbered(60))
    found = []
    for kind in ("thread", "process"):
        pipeline = bench.pipeline(operators, parallel_size=2, executor=kind, **settings)
        report = pipeline.create("a", if_exists="overwrite").run()
        rows = lines(bench.output)
        assert report.rows_out == len(rows) > 0
        found.append(rows)
    assert bag(found[0]) == bag(found[1])
    if settings.get("ordered"):
        assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.process
def test_csv_and_memory_streams_feed_processes(bench: Bench, tmp_path: Path) -> None:
    """M16: quoted cells with newlines, a header for all; a stream that only this process can see."""
    MemoryStream("memory://in", [{"n": n, "text": f'row {n},\n"quoted"'} for n in range(20)])
    settings: dict[str, Any] = {"parallel_size": 2, "default_protocol": "csv://", "executor": "process"}
    pipeline = bench.pipeline(
        [copy, copy], input_uri="memory://in", output_uri=f"csv://{tmp_path / 'out.csv'}", streaming=True, **settings
    )
    assert pipeline.create("a").run().rows_out == 20
    rows = stored(f"csv://{tmp_path / 'out.csv'}")
    assert bag(rows) == bag({"n": str(n), "text": f'row {n},\n"quoted"', "_i": n} for n in range(20))
    MemoryStream("memory://in").delete()


@pytest.mark.slow
@pytest.mark.process
def test_the_setting_is_in_the_run_state_and_a_resume_keeps_it(bench: Bench) -> None:
    """M5, M6: whatever the code says then; and a node may differ from the pipeline."""
    calls = Calls(bench.folder / "calls")

    def where(row: Any) -> Any:
        if row["n"] == 5 and not calls.all():
            calls.note("failed")
            raise ValueError("once")
        return {"pid": os.getpid()}

    bench.give(numbered(10))
    pipeline = bench.pipeline([where, copy], executor="process", ordered=True)
    pipeline.create("a", node_configs=[None, {"executor": "thread"}])
    assert [node["executor"] for node in bench.run_state("a")["nodes"]] == ["process", "thread"]
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, ValueError)
    bench.pipeline([where, copy]).resume("a").run()
    pids = [row["pid"] for row in lines(bench.output)]
    assert len(pids) == 10
    assert os.getpid() not in pids
    assert len(set(pids)) == 2  # one in each run


@pytest.mark.process
def test_an_async_operator_in_processes_is_refused_before_anything_is_touched(bench: Bench) -> None:
    async def later(row: Any) -> Any:
        return row

    bench.give(numbered(1))
    before = bench.files()
    with pytest.raises(ConfigError, match="node_1: executor='process' is for plain operators"):
        bench.pipeline([double, later], executor="process").create("a")
    with pytest.raises(ConfigError, match="executor must be one of 'auto', 'thread', 'process', not 'cluster'"):
        bench.pipeline([double], executor="cluster")
    assert bench.files() == before
    bench.pipeline([double, later], executor="process").create("a", node_configs=[None, {"executor": "auto"}]).run()


def test_an_operator_that_cannot_be_pickled_is_refused_by_run(bench: Bench) -> None:
    bench.give(numbered(1))
    lock = threading.Lock()
    with pytest.raises(ConfigError, match=r"operator .*lambda.* cannot be sent to a worker process"):
        bench.pipeline([lambda row: (lock, row)], executor="process").create("a").run()
    assert not bench.output.exists()


def die_at(*numbers: int) -> Any:
    def work(row: Any) -> Any:
        if row["n"] in numbers:
            os._exit(9)
        return row

    return FunctionOperator(work, name="work")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
def test_rows_that_kill_their_process_are_left_out_and_the_run_goes_on(bench: Bench, on_error: str) -> None:
    """M24, C1: a dead worker is a failure of its rows, not of the run; a replay does them."""
    bench.give(numbered(150))
    pipeline = bench.pipeline([die_at(30, 120)], executor="process", parallel_size=2, on_error=on_error)
    report = pipeline.create("a").run()
    assert (report.rows_out, report.failed) == (148, 2)
    assert {row["n"] for row in lines(bench.output)} == set(range(150)) - {30, 120}
    if on_error == "dead_letter":
        dead_letters = lines(Path(f"{bench.output}.errors.jsonl"))
        assert sorted((dead_letter["_i"], dead_letter["error"]["kind"]) for dead_letter in dead_letters) == [
            (30, "WorkerDiedError"),
            (120, "WorkerDiedError"),
        ]
        assert bench.pipeline([die_at()]).replay("a").run().rows_out == 150


@pytest.mark.slow
@pytest.mark.process
def test_a_row_that_kills_its_process_fails_the_run_which_can_be_resumed(bench: Bench) -> None:
    """M24: on_error="fail"; what was done is done."""
    bench.give(numbered(200))
    hooks = RecordingHooks()
    with pytest.raises(NodeFailedError, match="has ended with status 9, in a call") as caught:
        bench.pipeline([die_at(100)], executor="process", ordered=True, hooks=hooks).create("a").run()
    assert isinstance(caught.value.__cause__, WorkerDiedError)
    assert len(lines(bench.output)) == 100
    assert bench.pipeline([die_at()]).resume("a").run().rows_out == 200


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("on_error", ["fail", "dead_letter"])
def test_with_at_most_once_no_row_of_a_dead_process_is_called_again(bench: Bench, on_error: str) -> None:
    """M24: nobody knows what the operator has done to it: abandoned, or a dead letter; retries or not."""
    count = CallCounter(bench.folder / "calls")
    operator = count(crash_at(7, file=bench.folder / "crashes")(FunctionOperator(double, name="pay")))
    bench.give(numbered(20))
    settings: dict[str, Any] = {"delivery": "at_most_once", "retries": 2, "retry_wait": 0.001, "on_error": on_error}
    pipeline = bench.pipeline([operator], executor="process", **settings).create("a")
    if on_error == "fail":
        with pytest.raises(NodeFailedError, match="killed by SIGKILL"):
            pipeline.run()
        bench.pipeline([operator]).resume("a").run()
    else:
        pipeline.run()
    assert set(count.counts().values()) == {1}
    assert count.total() == 20
    dead_letters = lines(Path(f"{bench.output}.errors.jsonl"))
    assert [dead_letter["error"]["kind"] for dead_letter in dead_letters] == [
        "Abandoned" if on_error == "fail" else "WorkerDiedError"
    ]
    assert len(lines(bench.output)) == 19


class Talkative(BaseOperator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        ctx.report_usage({"model": "m", "tokens": 3})
        ctx.log("seen", number=item["n"])
        return item


@pytest.mark.process
def test_usage_and_log_of_workers_reach_report_hooks_and_log(bench: Bench) -> None:
    """M26: all of it, before the run ends."""
    bench.give(numbered(30))
    hooks = RecordingHooks()
    report = bench.pipeline([Talkative()], executor="process", parallel_size=2, hooks=hooks).create("a").run()
    assert [used["tokens"] for used in report.usage] == [90]
    seen = [line["number"] for line in bench.log_lines() if line.get("message") == "seen"]
    assert sorted(seen) == list(range(30))


@pytest.mark.process
def test_a_cancel_ends_calls_that_ask_and_kills_those_that_do_not_after_grace(bench: Bench) -> None:
    """M7: a process can be ended, where a thread can only be left behind."""

    def stuck(row: Any, ctx: INodeContext) -> Any:
        ctx.log("begun")
        time.sleep(600)

    bench.give(numbered(3))
    pipeline = bench.pipeline([stuck], executor="process", grace=0.1).create("a")
    pipeline.start()
    eventually(lambda: bench.log.exists() and "begun" in bench.log.read_text())
    pipeline.cancel()
    report = pipeline.wait(30)
    assert report.status == "canceled"
    eventually(lambda: not worker_processes())
    assert "[Grace Over]" in bench.log.read_text()


@pytest.mark.process
def test_a_node_by_itself_runs_in_processes(bench: Bench) -> None:
    """M31."""
    bench.give(numbered(10))
    node = UnifiedNode("alone", executor="process", follow_input=False, log_file=None)
    node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    node.set_processor(lambda items, ctx: [{"pid": os.getpid()} for _ in items])
    assert node.run().rows_out == 10
    assert str(os.getpid()) not in {json.dumps(row["pid"]) for row in lines(bench.output)}


@pytest.mark.process
def test_batch_size_does_not_multiply_processes(bench: Bench) -> None:
    """M10: items of a batch are done one after the other in a worker."""

    def where(row: Any) -> Any:
        time.sleep(0.02)
        return {"pid": os.getpid()}

    bench.give(numbered(20))
    bench.pipeline([where], executor="process", parallel_size=1, batch_size=10).create("a").run()
    assert len({row["pid"] for row in lines(bench.output)}) == 1
