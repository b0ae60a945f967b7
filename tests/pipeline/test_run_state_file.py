"""runtime.json and checkpoint.json while a run goes on, and after it (M8, M27, R1, C1)."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pykka
import pytest

from llm_datagen import MemoryStream, NodeFailedError, Status
from llm_datagen.actors.supervisor import SupervisorActor

from ..kit.actors import SteppingClock, go_by
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, numbered


class Watcher:
    """Reads the run state, the checkpoint and the streams every 20 ms, from another thread."""

    def __init__(self, bench: Bench, pipeline_id: str) -> None:
        self.bench = bench
        self.folder = bench.results / pipeline_id
        self.outputs = [bench.between(pipeline_id), bench.output]
        self.run_states: list[dict[str, Any]] = []
        self.checkpoints: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def totals(self) -> set[int]:
        """Return the sums of the nodes' rows that were seen."""
        return {sum(node["rows_in"] for node in run_state["nodes"]) for run_state in list(self.run_states)}

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - to be shown by the test
                self.problems.append(repr(error))

    def _look(self) -> None:
        run_state = json.loads((self.folder / "runtime.json").read_bytes())
        self.run_states.append(run_state)
        # The files are read after what is said of them, and only grow.
        rows = [path.read_bytes().count(b"\n") if path.exists() else 0 for path in self.outputs]
        for node, have in zip(run_state["nodes"], rows, strict=True):
            if node["rows_out"] > have:
                self.problems.append(f"{node['node_id']} claims {node['rows_out']} rows, {have} are there")
            if node["rows_in"] != node["rows_out"] + node["filtered"]:
                self.problems.append(f"rows in, out and filtered do not add up: {node}")
        path = self.folder / "checkpoint.json"
        if path.exists():
            checkpoint = json.loads(path.read_bytes())
            self.checkpoints.append(checkpoint)
            sizes = [path.stat().st_size if path.exists() else 0 for path in self.outputs]
            for (name, position), size in zip(checkpoint.items(), sizes, strict=True):
                if (position["output"]["bytes"] or 0) > size:
                    self.problems.append(f"{name} claims {position['output']['bytes']} bytes, {size} are there")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
def test_the_run_state_is_whole_at_every_instant_and_never_ahead_of_the_streams(bench: Bench, streaming: bool) -> None:
    """M27, R1, C1: replaced atomically; progress moves, and is never more than is on disk."""
    rows = 240 if streaming else 120
    bench.give(numbered(rows))

    def work(item: Any) -> Any:
        time.sleep(0.012)
        if item["n"] == rows - 1:  # not before the watcher has seen the run move
            eventually(lambda: len(watcher.checkpoints) > 3 and len(watcher.totals()) >= 3)
        return item if item["n"] % 7 else None

    pipeline = bench.pipeline([work, work], streaming=streaming, parallel_size=2).create("a")
    with Watcher(bench, "a") as watcher:
        pipeline.run()
    assert watcher.problems == []
    for node in (0, 1):
        progress = [run_state["nodes"][node]["rows_in"] for run_state in watcher.run_states]
        assert progress == sorted(progress)
    assert len(watcher.totals()) >= 3, "progress does not move"
    assert len(watcher.checkpoints) > 3
    statuses = [run_state["status"] for run_state in watcher.run_states]
    assert set(statuses) <= {"pending", "running", "completed"}
    assert "running" in statuses


def test_the_run_state_is_replaced_once_a_second(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M27: at least, by the supervisor's clock; whether or not something moves."""
    bench.give(numbered(1))
    clock, go_on = SteppingClock(), threading.Event()
    go_by(clock, SupervisorActor, monkeypatch)

    def work(item: Any) -> Any:
        assert go_on.wait(PATIENCE_SECONDS)
        return item

    pipeline = bench.pipeline([work]).create("a")
    pipeline.start()
    try:
        (supervisor,) = eventually(lambda: pykka.ActorRegistry.get_by_class(SupervisorActor))
        clock.settle(supervisor)
        for _ in range(5):
            before = bench.run_state("a")["updated_at"]
            for _ in range(4):
                clock.step(supervisor, 0.25)
            assert bench.run_state("a")["updated_at"] > before
    finally:
        go_on.set()
        pipeline.wait(PATIENCE_SECONDS)


def test_the_run_state_says_everything_a_dashboard_needs(bench: Bench) -> None:
    """M27: topology, URIs, status, progress, rates, usage sums, errors, pid, timestamps."""
    bench.give(numbered(60))

    def count(item: Any, ctx: Any) -> Any:
        ctx.report_usage({"provider": "local", "model": "m", "prompt_tokens": 3, "completion_tokens": 1})
        ctx.report_usage({"model": "other", "calls": 1, "note": "text is not summed"})
        return [item] * (item["n"] % 3)

    def same(item: Any) -> Any:
        return item

    before = datetime.now(UTC)
    report = bench.pipeline([count, same], streaming=True).create("a").run()
    run_state = bench.run_state("a")
    assert (run_state["pipeline_id"], run_state["status"], run_state["error"], run_state["reason"]) == (
        "a",
        "completed",
        None,
        "",
    )
    assert (run_state["pid"], run_state["host"]) == (os.getpid(), socket.gethostname())
    times = [datetime.fromisoformat(run_state[name]) for name in ("created_at", "started_at", "ended_at", "updated_at")]
    assert times == sorted(times)
    assert (before - times[0]).total_seconds() < 0.01
    first, second = run_state["nodes"]
    assert [first["node_id"], second["node_id"]] == ["node_0", "node_1"]
    assert first["output_uri"] == second["input_uri"] == f"jsonl://{bench.between('a')}"
    assert first["input_uri"] == f"jsonl://{bench.input}"
    assert second["output_uri"] == f"jsonl://{bench.output}"
    assert (first["rows_in"], first["rows_out"], first["filtered"], first["failed"]) == (60, 60, 20, 0)
    assert (second["rows_in"], second["rows_out"], second["total"], second["total_is_exact"]) == (60, 60, 60, True)
    assert first["rows_per_second"] > 0
    assert first["seconds"] > 0
    assert first["usage"] == [
        {"provider": "local", "model": "m", "prompt_tokens": 180, "completion_tokens": 60},
        {"provider": "", "model": "other", "calls": 60},
    ]
    assert report.usage == first["usage"]
    assert run_state["config"]["operators"] == [count.__qualname__, same.__qualname__]
    checkpoint = json.loads((bench.results / "a" / "checkpoint.json").read_bytes())
    assert checkpoint["node_1"]["output"]["rows"] == 60
    assert checkpoint["node_1"]["output"]["bytes"] == bench.output.stat().st_size
    assert checkpoint["node_0"]["input"]["row"] == 60
    assert checkpoint["node_0"]["input"]["offset"] == bench.input.stat().st_size


def test_the_report_is_the_end_of_the_story(bench: Bench) -> None:
    """M5: what run() returns is what the run state and the object say."""
    bench.give(numbered(20))
    pipeline = bench.pipeline([lambda item: item if item["n"] > 4 else None, lambda item: [item, item]]).create("a")
    report = pipeline.run()
    assert (report.pipeline_id, report.status) == ("a", Status.COMPLETED)
    assert (report.rows_in, report.rows_out, report.filtered, report.failed) == (20, 30, 5, 0)
    assert report.seconds > 0
    assert pipeline.status == Status.COMPLETED
    assert pipeline.progress == list(report.nodes)


def test_run_without_create_makes_an_id(bench: Bench) -> None:
    """M5: called without create(), run() creates under a generated id, which resume() takes."""
    bench.give(numbered(5))
    pipeline = bench.pipeline([lambda item: item])
    assert pipeline.pipeline_id == ""
    report = pipeline.run()
    assert report.pipeline_id == pipeline.pipeline_id != ""
    assert bench.run_state(report.pipeline_id)["status"] == "completed"
    assert pipeline.resume(report.pipeline_id).run().status == Status.COMPLETED


def test_statuses_on_the_way(bench: Bench) -> None:
    """M8: pending, running, canceling, canceled; each is on disk, and in the object, while it is so."""
    bench.give(numbered(5000))
    here, go_on = threading.Event(), threading.Event()

    def work(item: Any) -> Any:
        here.set()
        go_on.wait(PATIENCE_SECONDS)
        return item

    pipeline = bench.pipeline([work]).create("a")

    def are(status: Status) -> bool:
        return (pipeline.status, bench.run_state("a")["status"]) == (status, str(status))

    assert are(Status.PENDING)
    pipeline.start()
    here.wait(PATIENCE_SECONDS)
    eventually(lambda: are(Status.RUNNING))
    pipeline.cancel("enough")
    eventually(lambda: are(Status.CANCELING))
    go_on.set()
    pipeline.wait()
    assert are(Status.CANCELED)
    pipeline.resume("a")
    assert are(Status.RESUMING)
    pipeline.run()
    assert are(Status.COMPLETED)


def test_a_failed_run_says_so_in_its_run_state(bench: Bench) -> None:
    """M27: the error is in the run state, of the run and of the node; a resume takes it away."""
    bench.give(numbered(10))
    fail = True

    def work(item: Any) -> Any:
        if fail and item["n"] == 5:
            raise ValueError("five")
        return item

    pipeline = bench.pipeline([work]).create("a")
    with pytest.raises(NodeFailedError):
        pipeline.run()
    run_state = bench.run_state("a")
    assert run_state["error"] == run_state["nodes"][0]["error"] == "ValueError: five"
    assert run_state["nodes"][0]["failed"] == 1
    assert run_state["ended_at"] is not None
    fail = False
    pipeline.resume("a").run()
    run_state = bench.run_state("a")
    assert run_state["error"] is None
    assert run_state["nodes"][0]["error"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**70, -(2**65), True, None, "text", [1], 1.5])
def test_no_usage_breaks_the_run_or_its_resume(bench: Bench, value: Any) -> None:
    """M13, M27: usage is somebody's measurement, and may be any number, or none."""
    bench.give(numbered(10))
    stop = True

    def work(item: Any, ctx: Any) -> Any:
        ctx.report_usage({"provider": "p", "model": "m", "cost": value, "calls": 1})
        if stop and item["n"] == 5:
            raise RuntimeError("stop")
        return item

    pipeline = bench.pipeline([work]).create("a")
    with pytest.raises(NodeFailedError, match="stop"):
        pipeline.run()
    stop = False
    report = bench.pipeline([work]).resume("a").run()
    assert report.status == Status.COMPLETED
    assert [row["n"] for row in lines(bench.output)] == list(range(10))
    assert report.usage[0]["calls"] >= 11


@pytest.mark.slow
def test_a_flood_of_usage_does_not_stop_the_run_state_and_is_summed(bench: Bench) -> None:
    """M27: 20,000 reports in a run are all counted, and the run state is saved meanwhile."""
    bench.give(numbered(2000))

    def work(item: Any, ctx: Any) -> Any:
        for _ in range(10):
            ctx.report_usage({"model": "m", "tokens": 1})
        return item

    report = bench.pipeline([work], parallel_size=4).create("a").run()
    assert report.usage == [{"provider": "", "model": "m", "tokens": 20_000}]
    assert bench.run_state("a")["nodes"][0]["usage"] == report.usage


def test_wait_gives_up_when_its_time_is_over(bench: Bench) -> None:
    """M5: `wait(timeout)` returns None, and the run goes on."""
    bench.give(numbered(3))
    go_on = threading.Event()

    def work(item: Any) -> Any:
        go_on.wait(PATIENCE_SECONDS)
        return item

    pipeline = bench.pipeline([work])
    pipeline.start()
    with pytest.raises(TimeoutError, match="still goes on"):
        pipeline.wait(0.05)
    go_on.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status == Status.COMPLETED
    assert pipeline.wait(0) == report


def test_two_pipelines_run_at_once_in_one_process(bench: Bench, tmp_path: Path) -> None:
    """M23: ids are what must not meet; two pipelines with ids of their own do not disturb each other."""
    bench.give(numbered(300))
    second = Bench(tmp_path / "second")
    second.folder.mkdir()
    second.give(numbered(200))
    pipelines = [bench.pipeline([lambda item: item] * 2, streaming=True), second.pipeline([lambda item: item] * 2)]
    for pipeline in pipelines:
        pipeline.start()
    reports = [pipeline.wait(PATIENCE_SECONDS) for pipeline in pipelines]
    assert [report.rows_out for report in reports] == [300, 200]
    assert (len(lines(bench.output)), len(lines(second.output))) == (300, 200)


def test_a_chain_of_pipelines_reads_what_the_one_before_wrote(bench: Bench) -> None:
    """M2, M17: an output is a stream like any other: another pipeline may read it, sealed, and names rows afresh."""
    bench.give(numbered(10))
    bench.pipeline([lambda item: [{"n": item["n"]}] * 2]).create("a").run()
    third = MemoryStream("memory://test-chain")
    bench.pipeline([lambda item: item], input_uri=f"jsonl://{bench.output}", output_uri="memory://test-chain").create(
        "b"
    ).run()
    assert [row["_i"] for row in third.rows()] == list(range(20))
    third.delete()
