"""Hooks: who is told what, and that nobody who watches can slow or break a run (M26)."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    CompositePipelineHooks,
    DefaultPipelineHooks,
    IPipelineHooks,
    NodeFailedError,
    Status,
    UnifiedNode,
    UnifiedNodePipeline,
)
from llm_datagen.runs.hooks import HOOK_NAMES

from ..kit.support import PATIENCE_SECONDS, QUICK, Bench, eventually, lines, numbered


class Everything(DefaultPipelineHooks):
    """Remembers every call, and checks what it is told of progress against the files."""

    def __init__(self, outputs: Mapping[str, Path] | None = None) -> None:
        self.story: list[tuple[Any, ...]] = []
        self.threads: set[str] = set()
        self.outputs = outputs or {}
        self.inflated: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in HOOK_NAMES:
            return super().__getattribute__(name)

        def note(*args: Any) -> None:
            self.story.append((name, *args))
            self.threads.add(threading.current_thread().name)
            if name == "on_node_progress" and self.outputs:
                _, nid, curr, _, meta = args
                path = self.outputs[nid]
                rows = path.read_bytes().count(b"\n") if path.exists() else 0
                if meta["rows_out"] > rows or curr != meta["rows_out"] + meta["filtered"]:
                    self.inflated.append(f"{nid}: {curr}, {meta}, {rows} rows on disk")

        return note

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.story if entry[0] == name]


@pytest.mark.parametrize("streaming", [True, False])
def test_every_hook_is_called_with_its_arguments_in_a_sensible_order(bench: Bench, streaming: bool) -> None:
    """M26: ten hooks, their arguments, and what comes before what."""
    bench.give(numbered(120))

    def first(item: Any, ctx: Any) -> Any:
        time.sleep(0.002)
        if item["n"] == 3:
            ctx.log("row three is here", count=1)
            ctx.report_usage({"provider": "p", "model": "m", "tokens": 7})
        return item if item["n"] % 4 else None

    def second(item: Any) -> Any:
        return item

    hooks = Everything({"node_0": bench.between("a"), "node_1": bench.output})
    pipeline = bench.pipeline([first, second], streaming=streaming, hooks=hooks, parallel_size=2).create("a")
    pipeline.run()
    assert isinstance(hooks, IPipelineHooks)
    names = [entry[0] for entry in hooks.story]
    assert names[0] == "on_pipeline_start"
    assert names[-1] == "on_pipeline_end"
    ((cid, config),) = hooks.of("on_pipeline_start")
    assert cid == "a"
    assert config["streaming"] is streaming
    assert config["operators"] == [first.__qualname__, second.__qualname__]
    assert hooks.of("on_pipeline_end") == [("a", True, None)]
    assert len(hooks.threads) == 1  # never two at once

    starts = {nid: config for cid, nid, config in hooks.of("on_node_start") if cid == "a"}
    assert set(starts) == {"node_0", "node_1"}
    assert starts["node_0"]["output_uri"] == f"jsonl://{bench.between('a')}"
    assert sorted(hooks.of("on_node_finish")) == [("a", "node_0"), ("a", "node_1")]
    assert sorted(entry[:3] for entry in hooks.of("on_node_end")) == [("a", "node_0", True), ("a", "node_1", True)]
    for nid in ("node_0", "node_1"):
        own = [entry for entry in hooks.story if len(entry) > 2 and entry[2] == nid]
        order = [entry[0] for entry in own]
        assert order[0] == "on_node_start"
        assert order.index("on_node_finish") + 1 == order.index("on_node_end")
        assert "on_node_progress" in order
        assert "on_checkpoint" in order
        progress = [entry for entry in own if entry[0] == "on_node_progress"]
        curr = [entry[3] for entry in progress]
        assert curr == sorted(curr)
        assert order.index("on_node_end") > max(n for n, name in enumerate(order) if name == "on_node_progress")
        assert progress[-1][3:5] == ((120, 120) if nid == "node_0" else (90, 90))
        assert progress[-1][5]["total_is_exact"] is True
    assert hooks.inflated == []
    assert hooks.of("on_usage") == [("a", "node_0", "p", "m", {"tokens": 7})]
    assert hooks.of("on_log") == [("a", "node_0", "info", "row three is here")]
    assert hooks.of("on_node_error") == []
    for cid, _, checkpoint in hooks.of("on_checkpoint"):
        assert cid == "a"
        assert {"input", "output"} <= set(checkpoint)
    if not streaming:
        assert names.index("on_node_end") < max(n for n, name in enumerate(names) if name == "on_node_start")


@pytest.mark.slow
def test_the_total_is_known_of_the_input_and_estimated_behind_it(bench: Bench) -> None:
    """M26: `total` may be None or an estimate, `meta` says which; it is exact in the end."""
    bench.give(numbered(400))
    hooks = Everything()

    def slow(item: Any) -> Any:
        time.sleep(0.001)
        return [item, item]

    bench.pipeline([slow, lambda item: item], streaming=True, hooks=hooks).create("a").run()
    for nid, exact in (("node_0", 400), ("node_1", 800)):
        own = [entry for entry in hooks.of("on_node_progress") if entry[1] == nid]
        assert own[-1][3] == exact
        for _, _, curr, total, meta in own:
            assert total is None or total >= curr
            assert not meta["total_is_exact"] or total == exact


def test_the_total_behind_a_target_is_never_more_than_the_target(bench: Bench) -> None:
    """M26: three rows of each of 400 would be 1,200; of these the node in front writes 50."""
    bench.give(numbered(400))
    hooks = Everything()

    def told() -> list[tuple[int, bool]]:
        progress = [(nid, total, meta["total_is_exact"]) for _, nid, _, total, meta in hooks.of("on_node_progress")]
        return [(total, is_exact) for nid, total, is_exact in progress if nid == "next" and total is not None]

    def many(item: Any) -> Any:
        if item["n"] == 10:  # 30 rows are written
            eventually(told)
        return [item] * 3

    between = f"jsonl://{bench.folder / 'many.jsonl'}"
    first = UnifiedNode("many", target=50, writer_config=QUICK).bind_io(f"jsonl://{bench.input}", between)
    then = UnifiedNode("next", writer_config=QUICK).bind_io(between, f"jsonl://{bench.output}")
    first.set_operator(many)
    then.set_operator(lambda item: item)
    pipeline = UnifiedNodePipeline([first, then], streaming=True, results_dir=bench.results, log_file=None, hooks=hooks)
    pipeline.create("a").run(progress=False)
    assert set(told()) == {(50, False), (50, True)}


@pytest.mark.parametrize("streaming", [True, False])
def test_a_hook_that_blocks_does_not_slow_the_run(bench: Bench, streaming: bool) -> None:
    """M26: while the first hook has not returned, the run goes to its end and is saved."""
    bench.give(numbered(5000))
    go_on = threading.Event()

    class Stuck(DefaultPipelineHooks):
        ended = False

        def on_pipeline_start(self, cid: str, config: Mapping[str, Any]) -> None:
            go_on.wait(3 * PATIENCE_SECONDS)

        def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
            self.ended = success

    hooks = Stuck()
    pipeline = bench.pipeline([lambda item: item] * 2, streaming=streaming, hooks=hooks).create("a")
    pipeline.start()
    try:
        eventually(lambda: bench.run_state("a")["status"] == "completed")
        assert not go_on.is_set()
        assert bench.is_sealed()
        assert not hooks.ended
    finally:
        go_on.set()
        pipeline.wait(PATIENCE_SECONDS)
    assert hooks.ended


def test_slow_hooks_get_the_latest_progress_and_all_of_the_usage(bench: Bench) -> None:
    """M26: what a slow hook misses is conflated: sums stay right, ends are never dropped, memory stays flat."""
    bench.give(numbered(3000))
    go_on = threading.Event()
    tokens = 0.0
    told: list[str] = []

    class Slow(DefaultPipelineHooks):
        def on_node_start(self, cid: str, nid: str, config: Mapping[str, Any]) -> None:
            go_on.wait(PATIENCE_SECONDS)

        def on_usage(self, cid: str, nid: str, provider: str, model: str, metrics: Mapping[str, float]) -> None:
            nonlocal tokens
            tokens += metrics["tokens"]
            told.append("usage")

        def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
            told.append("end")

    def work(item: Any, ctx: Any) -> Any:
        ctx.report_usage({"model": "m", "tokens": 2})
        return item

    pipeline = bench.pipeline([work], hooks=Slow(), parallel_size=2).create("a")
    pipeline.start()
    eventually(lambda: bench.run_state("a")["status"] == "completed")
    go_on.set()
    pipeline.wait(PATIENCE_SECONDS)
    assert tokens == 6000
    assert told.count("end") == 1
    assert told.count("usage") <= 1100


@pytest.mark.parametrize("error", [ValueError("hook"), SystemExit(2), KeyboardInterrupt()])
def test_hooks_that_fail_do_not_break_the_run(bench: Bench, error: BaseException) -> None:
    """M26: each failure is logged, and the next hook is called."""
    bench.give(numbered(50))

    class Failing(DefaultPipelineHooks):
        called = 0

        def __getattribute__(self, name: str) -> Any:
            if name in HOOK_NAMES:
                type(self).called += 1
                raise error
            return super().__getattribute__(name)

    report = bench.pipeline([lambda item: item], hooks=Failing()).run()
    assert report.status == Status.COMPLETED
    assert len(lines(bench.output)) == 50
    assert Failing.called > 5
    failed = [line for line in bench.log_lines() if line["event"] == "[Hook Failed]"]
    assert len(failed) == Failing.called


def test_composite_hooks_tell_all_of_them(bench: Bench) -> None:
    """M26: one that fails does not keep the others from it; the order is the one given."""
    bench.give(numbered(10))
    order: list[str] = []

    class Named(DefaultPipelineHooks):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
            order.append(self.name)
            if self.name == "bad":
                raise RuntimeError("bad")

    everything = Everything()
    hooks = CompositePipelineHooks([Named("one"), Named("bad"), everything, Named("two")])
    assert isinstance(hooks, IPipelineHooks)
    bench.pipeline([lambda item: item], hooks=hooks).create("a").run()
    assert order == ["one", "bad", "two"]
    assert everything.of("on_pipeline_end") == [("a", True, None)]
    assert len(everything.of("on_node_start")) == 1


def test_the_monitor_of_the_manual_runs_unchanged(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """M26 (10.2 of the manual): the example of the console."""
    bench.give(numbered(20))

    class MyMonitor(DefaultPipelineHooks):
        def on_node_progress(self, cid, nid, curr, total, meta):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            print(f"Node {nid} progress: {curr}/{total}")

    bench.pipeline([lambda item: item], hooks=MyMonitor()).run()
    assert "Node node_0 progress: 20/20" in capsys.readouterr().out


def test_hooks_hear_of_a_failure_once_and_of_a_cancel_as_no_error(bench: Bench) -> None:
    """M26: `on_pipeline_end(success=False)`: with the error after a failure, without one after a cancel."""
    bench.give(numbered(10))
    hooks = Everything()
    with pytest.raises(NodeFailedError):
        bench.pipeline([lambda item: item["missing"]], hooks=hooks).create("a").run()
    ((_, success, error),) = hooks.of("on_pipeline_end")
    assert not success
    assert isinstance(error, KeyError)
    ((_, nid, same, items),) = hooks.of("on_node_error")
    assert (nid, same, items) == ("node_0", error, [{"n": 0, "_i": 0}])

    hooks = Everything()
    pipeline = bench.pipeline([lambda item: item], hooks=hooks, follow_input=True).create("a", if_exists="overwrite")
    pipeline.start()
    pipeline.cancel()
    pipeline.wait()
    assert hooks.of("on_pipeline_end") == [("a", False, None)]
    assert hooks.of("on_node_error") == []
    assert hooks.of("on_node_finish") == []
