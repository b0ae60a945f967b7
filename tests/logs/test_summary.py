"""What a log says of where the time of a run went: whole runs, killed ones, several in a file (M28)."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, DiskError, LogFile, UnifiedNode, logs
from llm_datagen.runs.logs import NodeSummary
from llm_datagen.runs.logs.bottleneck import LoggedState, bottleneck_of
from llm_datagen.testing import Fault, inject

from ..kit import programs
from ..kit.support import QUICK, Bench, numbered


def slow(item: Any) -> Any:
    time.sleep(0.005)
    return item


def same(item: Any) -> Any:
    return item


def ended(node_id: str, **figures: Any) -> NodeSummary:
    return NodeSummary(
        **{"is_exact": True, "seconds": 100.0, "workers": 4, "busy_s": 0.0, "node_id": node_id, **figures}
    )


@pytest.mark.parametrize(
    ("nodes", "sentence"),
    [
        (
            [ended("node_0", busy_s=120, held_back_s=244, seconds=100), ended("node_1", busy_s=430, seconds=110)],
            "node_1 limits: its workers were busy 98 % of the time; node_0 was held back 61 %",
        ),
        (
            [ended("node_0", busy_s=396), ended("node_1", busy_s=40, starved_s=90)],
            "node_0 limits: its workers were busy 99 % of the time; node_1 waited for rows 90 %",
        ),
        ([ended("a", busy_s=100, held_back_s=280)], "a limits: its workers waited for its writer 70 % of the time"),
        (
            [ended("a", busy_s=300, held_back_s=80)],
            "a limits: its workers were busy 75 % of the time, and held back by its writer 20 %",
        ),
        (
            [ended("a", busy_s=8, starved_s=95), ended("b", busy_s=4, starved_s=97)],
            "the input limits: a waited for rows 95 % of the time; b waited for rows 97 %",
        ),
        (
            [ended("a", busy_s=100, rate=7.5), ended("b", starved_s=90)],
            "a limits: it had rows to work on for 100.0 s, though of its workers (4) only 1.0 were busy on average; "
            "it may begin 7.5 rows per second at most (rate); b waited for rows 90 %",
        ),
        (
            [ended("a", busy_s=100, rate=7.5, rate_limited_s=60, starved_s=90), ended("b", starved_s=90)],
            "a limits by its rate (7.5 rows per second): it held rows back 60 % of the time; b waited for rows 90 %",
        ),
        (
            [ended("a", busy_s=100, rate_limited_s=60)],  # its rate is no more
            "a limits by its rate: it held rows back 60 % of the time",
        ),
        (
            [ended("a", busy_s=396, rate=7.5, rate_limited_s=40)],
            "a limits: its workers were busy 99 % of the time",
        ),
        (
            [ended("a", busy_s=100)],
            "a limits: it had rows to work on for 100.0 s, though of its workers (4) only 1.0 were busy on average",
        ),
        # Rows are asked for ahead: who is busy all the time waits for nothing, whatever its reader does.
        ([ended("a", busy_s=396, starved_s=60)], "a limits: its workers were busy 99 % of the time"),
        (
            [ended("a", busy_s=396), NodeSummary(node_id="b", held_back_s=1.25, held_back_times=3)],
            "the bottleneck is known when its nodes have ended; b was held back at least 3 times, 1.2 s",
        ),
        ([], "the bottleneck is known when its nodes have ended"),
    ],
)
def test_the_bottleneck_in_a_sentence(nodes: list[NodeSummary], sentence: str) -> None:
    assert bottleneck_of(tuple(nodes)) == sentence


@pytest.mark.parametrize("streaming", [True, False])
def test_a_slow_operator_limits(bench: Bench, streaming: bool) -> None:
    bench.give(numbered(100))
    report = bench.pipeline([same, slow], streaming=streaming, parallel_size=2).create("a").run()
    (run,) = logs.summary(bench.log).runs
    assert (run.pipeline_id, run.state, run.is_whole) == ("a", LoggedState.ENDED, True)
    first, second = run.nodes
    assert (second.workers, second.is_exact, second.status) == (2, True, "completed")
    assert second.busy_s is not None
    assert second.busy_s >= 100 * 0.005
    assert run.bottleneck.startswith("node_1 limits: ")  # how busy they were, on a busy machine, is another matter
    told = report.nodes[1]
    assert (told.workers, told.busy_s, told.seconds) == (2, second.busy_s, second.seconds)
    assert bench.run_state("a")["nodes"][1]["busy_s"] == second.busy_s
    assert first.own_s < second.own_s


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "settings",
    [
        {"writer_config": {"queue_size": 1, "flush_batch_size": 1}},
        {"writer_config": {"async_mode": False}},
        {"writer_config": {"async_mode": False}, "ordered": True, "parallel_size": 3},
    ],
    ids=str,
)
def test_a_slow_disk_holds_the_workers_back(bench: Bench, settings: dict[str, Any]) -> None:
    """Whether they wait for room in the queue, for the commit, or for the worker that does."""
    bench.give(numbered(12))
    with inject(Fault(operation="write", path="*out.jsonl", action="delay", seconds=0.1, times=None)):
        report = bench.pipeline([slow], **settings).create("a").run()
    (node,) = logs.summary(bench.log).runs[0].nodes
    assert node.held_back_times >= 1
    assert node.held_back_s >= 0.05
    assert (node.held_back_s, node.held_back_times) == (report.nodes[0].held_back_s, report.nodes[0].held_back_times)


def test_nobody_is_held_back_by_a_writer_that_has_room(bench: Bench) -> None:
    bench.give(numbered(50))
    node = bench.pipeline([slow], parallel_size=2).create("a").run().nodes[0]
    assert (node.held_back_s, node.held_back_times) == (0.0, 0)


def test_a_node_behind_a_slow_one_waits_for_rows(bench: Bench) -> None:
    bench.give(numbered(100))
    bench.pipeline([slow, same], streaming=True).create("a").run()
    (run,) = logs.summary(bench.log).runs
    assert run.bottleneck.startswith("node_0 limits: ")  # how busy they were, on a busy machine, is another matter
    assert run.nodes[1].starved_times >= 2
    assert run.nodes[1].starved_s > 0
    assert run.nodes[0].starved_times == 0


KILLED = """
import os, signal, sys, time
from pathlib import Path
from llm_datagen import UnifiedPipeline
folder, kill = sys.argv[1], len(sys.argv) > 2
def step(item):
    if kill and item["n"] == 30:
        while "[Node Started]" not in Path(folder, "platform.log").read_text():
            time.sleep(0.01)  # the supervisor writes it, meanwhile
        os.kill(os.getpid(), signal.SIGKILL)
    return item
step.version = "1"  # whether it dies is no setting
made = UnifiedPipeline([step], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", base_path=folder,
                       results_dir=folder + "/results", log_file=folder + "/platform.log")
(made.create("a") if kill else made.resume("a")).run()
"""


@pytest.mark.process
def test_a_run_that_was_killed_is_told_from_one_that_ended(bench: Bench) -> None:
    """By the log alone: while nothing else is known, it may still go on; when it was run again, it was killed."""
    bench.give(numbered(60))
    program = ["-c", KILLED, bench.folder]
    assert programs.run([*program, "kill"]).returncode == -9
    (killed,) = logs.summary(bench.log).runs
    assert (killed.state, killed.is_whole) == (LoggedState.OPEN, True)
    assert [(node.status, node.is_exact, node.busy_s) for node in killed.nodes] == [("running", False, None)]
    assert killed.bottleneck == "the bottleneck is known when its nodes have ended"
    programs.run(program, check=True)
    again = logs.summary(bench.log).runs
    assert [run.state for run in again] == [LoggedState.KILLED, LoggedState.ENDED]
    assert again[0].run == killed.run != again[1].run
    assert again[1].bottleneck.startswith("node_0 limits")


def test_of_a_run_that_goes_on_there_is_what_its_lines_tell(tmp_path: Path) -> None:
    at = datetime.fromisoformat("2026-01-01T00:00:00+00:00")

    def line(seconds: float, event: str, **fields: Any) -> str:
        when = (at + timedelta(seconds=seconds)).isoformat()
        common = {"event": event, "level": "info", "timestamp": when, "run": "r", "pipeline_id": "a"}
        return json.dumps({**common, **fields}) + "\n"

    here = {"node_id": "n", "stream": "s"}
    text = (
        line(0, "[Run Started]", streaming=True, nodes=["n", "behind"], pid=1)
        + line(0, "[Node Started]", node_id="n")
        + line(0, "[Refused]", node_id="node_9", error="no node 'node_9'")
        + line(1, "[EOF Retry]", **here, attempt=0, waited_s=0.0, offset=0)
        + line(2, "[EOF Retry]", **here, attempt=1, waited_s=0.5, offset=0)
        + line(3, "[EOF Retry]", **here, attempt=0, waited_s=0.0, offset=9)
        + line(3, "[EOF Waiting]", **here, waited_s=0.25, offset=9, hint="")
        + line(4, "[Backpressure]", **here, queue_rows=9, queue_size=10, waits=1)
        + line(5, "[Backpressure Over]", **here, queue_rows=9, waits=4, waited_s=1.0, waited_total_s=2.5)
        + line(6, "[Backpressure]", **here, queue_rows=9, queue_size=10, waits=5)
        + "torn by its dea"
    )
    log = tmp_path / "platform.log"
    log.write_text(text)
    found = logs.summary(log)
    assert found.unreadable == 1
    (run,) = found.runs
    assert (run.state, run.seconds) == (LoggedState.OPEN, 6.0)
    (node,) = run.nodes
    assert (node.held_back_s, node.held_back_times, node.seconds) == (2.5, 5, 6.0)
    assert (node.starved_s, node.starved_times) == (0.75, 2)
    assert run.bottleneck.endswith("n was held back at least 5 times, 2.5 s")


def test_the_seconds_that_a_rate_held_rows_back_are_in_the_log(bench: Bench) -> None:
    bench.give(numbered(10))
    report = bench.pipeline([same, same], node_configs=[{"rate": 50}]).create("a").run()
    (run,) = logs.summary(bench.log).runs
    limited, free = run.nodes
    assert (limited.rate, free.rate, free.rate_limited_s) == (50, None, 0)
    assert 0 < limited.rate_limited_s == report.nodes[0].rate_limited_s <= limited.seconds


def test_a_refused_change_of_no_node_leaves_the_bottleneck_known(tmp_path: Path) -> None:
    log = tmp_path / "platform.log"
    node = {"node_id": "n", "status": "completed", "seconds": 10.0, "workers": 1, "busy_s": 9.0}
    logged: list[dict[str, Any]] = [
        {"event": "[Run Started]", "nodes": ["n"]},
        {"event": "[Node Started]", "node_id": "n"},
        {"event": "[Refused]", "node_id": "node_9", "error": "no node 'node_9'"},
        {"event": "[Node Ended]", **node},
        {"event": "[Run Ended]", "seconds": 10.0},
    ]
    common = {"level": "info", "timestamp": "2026-01-01T00:00:00+00:00", "run": "r", "pipeline_id": "a"}
    log.write_text("".join(json.dumps({**common, **line}) + "\n" for line in logged))
    (run,) = logs.summary(log).runs
    assert [each.node_id for each in run.nodes] == ["n"]
    assert run.bottleneck == "n limits: its workers were busy 90 % of the time"


def test_runs_of_several_pipelines_and_nodes_in_one_log(bench: Bench) -> None:
    bench.give(numbered(5))
    for name in "ab":
        bench.pipeline([same], output_uri=f"memory://summary-{name}").create(name).run()
    for _ in range(2):
        node = UnifiedNode("alone", log_file=bench.log, writer_config=QUICK, follow_input=False)
        node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder}/alone.jsonl").set_operator(same).run()
    assert [run.pipeline_id for run in logs.summary(bench.log).runs] == ["a", "b", "", ""]
    assert [run.state for run in logs.summary(bench.log).runs] == [LoggedState.ENDED] * 4
    assert [run.pipeline_id for run in logs.summary(bench.log, pipeline_id="b").runs] == ["b"]
    later = logs.summary(bench.log).runs[-1].last
    assert len(logs.summary(bench.log, since=later).runs) == 1


def test_a_log_that_was_rotated_is_read_as_one(bench: Bench) -> None:
    bench.give(numbered(5))
    log = LogFile(bench.log, max_bytes=1_000, backups=50)
    for name in "abc":
        bench.pipeline([same], output_uri=f"memory://rotated-{name}", log_file=log).create(name).run()
    assert len(list(bench.folder.glob("platform.log.?"))) >= 3
    found = logs.summary(bench.log)
    assert [(run.pipeline_id, run.is_whole) for run in found.runs] == [("a", True), ("b", True), ("c", True)]
    oldest = max(bench.folder.glob("platform.log.[0-9]*"), key=lambda path: int(path.suffix[1:]))
    oldest.unlink()
    assert logs.summary(bench.log).runs[0].is_whole is False


def test_events_are_filtered(bench: Bench) -> None:
    bench.give(numbered(5))
    for name in "ab":
        bench.pipeline([same, same], output_uri=f"memory://filter-{name}").create(name).run()
    everything = list(logs.read(bench.log))
    assert [json.loads(event.line) for event in everything] == bench.log_lines()
    assert len(list(logs.read(bench.log, event="node ended"))) == 4
    assert len(list(logs.read(bench.log, event=["[Node Ended]", "Run Started"], pipeline_id="a"))) == 3
    assert {event.node_id for event in logs.read(bench.log, node="node_1")} == {"node_1"}
    middle = everything[6].at
    assert [event for event in everything if event.at >= middle] == list(logs.read(bench.log, since=middle))


def test_what_is_not_there_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(DiskError, match="cannot be read: there is no such file"):
        logs.read(bench.log)
    bench.log.write_text("")
    with pytest.raises(ConfigError, match=r"no event 'Backpresure'; known are Run Started, .*Backpressure"):
        logs.read(bench.log, event="Backpresure")
    assert logs.summary(bench.log).runs == ()
