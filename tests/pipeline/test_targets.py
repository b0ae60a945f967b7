"""Targets: a node writes exactly so many rows, never one more, and the run is completed."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    Generate,
    INodeContext,
    JsonlStream,
    NodeConfig,
    NodeFailedError,
    ResumeWarning,
    Route,
    RunReport,
    StopRun,
    Target,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.errors import StreamChangedError
from llm_datagen.messages import Cancel, Pause, Unpause
from llm_datagen.runs import RunFolder
from llm_datagen.runs.status import Status
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify

from ..kit.s3 import S3Bucket
from ..kit.support import (
    Bench,
    Stopping,
    eventually,
    instrument,
    lines,
    numbered,
    pairwise,
    stored,
    until_cancelled,
    write_jsonl,
)


def same(item: Any) -> Any:
    return item


def even(item: Any) -> Any:
    return item if item["n"] % 2 == 0 else None


class AsyncEven(BaseOperator):
    version = "1"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        await asyncio.sleep(0)
        return even(item)


class EvenBatches(BaseOperator):
    version = "1"

    def process_batch(self, items: Any, ctx: INodeContext) -> Any:
        return [even(item) for item in items]


def thirds(item: Any) -> Any:
    """Return three rows of each."""
    return [{"n": item["n"], "k": k} for k in range(3)]


def check(bench: Bench, pipeline: UnifiedPipeline | UnifiedNodePipeline) -> None:
    """Check that a run is whole, and that resuming it changes nothing."""
    assert pipeline.status is Status.COMPLETED
    assert [account.findings for account in verify(bench.run_state(pipeline.pipeline_id))] == [
        [] for _ in pipeline.nodes
    ]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("operator", "executor", "parallel_size", "batch_size", "streaming", "ordered", "target"),
    [
        (operator, executor, *others)
        for (operator, executor), *others in pairwise(
            [
                (even, "thread"),
                (AsyncEven(), "thread"),
                (EvenBatches(), "thread"),
                (even, "process"),
                (thirds, "thread"),
            ],
            [1, 8],
            [1, 5],
            [True, False],
            [True, False],
            [1, 7, 250],
        )
    ],
)
def test_a_target_is_met_exactly(
    bench: Bench,
    operator: Any,
    executor: str,
    parallel_size: int,
    batch_size: int,
    streaming: bool,
    ordered: bool,
    target: int,
) -> None:
    bench.give(numbered(2000))
    pipeline = bench.pipeline(
        [same, operator],
        streaming=streaming,
        ordered=ordered,
        parallel_size=parallel_size,
        batch_size=batch_size,
        executor=executor,
        target=target,
    )
    report = pipeline.run()
    rows = stored(f"jsonl://{bench.output}")
    assert len(rows) == target == report.rows_out == report.nodes[-1].target_rows
    every: list[Any] = [f"{n}_{k}" for n in range(2000) for k in range(3)]
    if operator is not thirds:
        every = list(range(0, 2000, 2))
    ids = [row["_i"] for row in rows]
    assert len(set(ids)) == target
    assert ids == every[:target] if ordered else set(ids) <= set(every)
    check(bench, pipeline)
    before = {path: path.read_bytes() for path in (bench.output, Path(f"{bench.output}.done"))}
    pipeline.resume(pipeline.pipeline_id).run()
    assert before == {path: path.read_bytes() for path in before}
    check(bench, pipeline)


@pytest.mark.slow
def test_the_nodes_before_a_target_end_with_it_even_if_their_source_has_no_end(bench: Bench) -> None:
    source = JsonlStream(f"jsonl://{bench.input}")
    over = threading.Event()

    def feed() -> None:
        with source.get_writer() as writer:
            for n in itertools.count():
                if over.is_set():
                    return
                writer.write([{"n": n}])

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        pipeline = bench.pipeline([same, same, even], streaming=True, follow_input=True, target=30)
        report = pipeline.run()
    finally:
        over.set()
        feeder.join()
    assert [node.status for node in report.nodes] == ["unneeded", "unneeded", "completed"]
    assert report.status == "completed"
    assert len(lines(bench.output)) == 30
    assert not Path(f"{bench.between(pipeline.pipeline_id)}.done").exists()
    assert report.warnings == []
    check(bench, pipeline)
    events = [(line["event"], line.get("node_id"), line.get("status")) for line in bench.log_lines()]
    assert ("[Target Met]", "node_2", None) in events
    assert ("[Node Ended]", "node_0", "unneeded") in events
    pipeline.resume(pipeline.pipeline_id).run()
    assert [node.status for node in pipeline.progress] == ["unneeded", "unneeded", "completed"]
    check(bench, pipeline)


def test_a_completed_run_with_nodes_that_nobody_needed_needs_its_input_no_more(bench: Bench) -> None:
    bench.give(numbered(5000))
    slow = bench.pipeline([same_slowly, same], streaming=True, target=3, writer_config={"flush_batch_size": 1})
    report = slow.run()
    assert report.nodes[0].status == "unneeded"
    bench.input.unlink()
    slow.resume(slow.pipeline_id).run()
    assert slow.status is Status.COMPLETED


def same_slowly(item: Any) -> Any:
    time.sleep(0.001)
    return item


def held_up(calls: int, *, rows: set[int]) -> Any:
    """Return an operator: so many calls begin together; those of some rows end when they are cancelled."""
    together = threading.Barrier(calls)

    def answer(item: Any, ctx: INodeContext) -> Any:
        together.wait(60)
        if item["n"] in rows:
            until_cancelled(ctx)
        return item

    return instrument(answer)


def test_what_was_in_flight_is_counted_as_beyond_the_target(bench: Bench) -> None:
    """Four calls are at work when the first gives the last row."""
    bench.give(numbered(4))
    answer = held_up(4, rows={0, 1, 3})
    pipeline = bench.pipeline([answer], parallel_size=4, target=1)
    report = pipeline.run()
    node = report.nodes[0]
    assert [row["n"] for row in lines(bench.output)] == [2]
    assert (node.rows_in, node.rows_out, node.beyond_target, node.cut_rows) == (1, 1, 3, 0)
    seal = json.loads(Path(f"{bench.output}.done").read_text())
    assert seal["ledger"] == {
        "kept": 1,
        "filtered": 0,
        "skipped": 0,
        "dead_letters": 0,
        "pending": None,
        "target": 1,
        "beyond_target": 3,
        "cut_rows": 0,
    }
    account = verify(bench.run_state(pipeline.pipeline_id))[0]
    assert (account.rows_in, account.pending, account.findings) == (4, 3, [])
    assert (account.target_rows, account.beyond_target) == (1, 3)
    assert [(one.where, one.state) for one in trace(bench.run_state(pipeline.pipeline_id), 1)] == [
        ("input", "row"),
        ("node_0", "beyond the target"),
    ]
    entry = bench.run_state(pipeline.pipeline_id)["nodes"][0]
    assert (entry["target"], entry["target_rows"], entry["beyond_target"], entry["status"]) == (1, 1, 3, "completed")


def test_with_ordered_rows_that_wait_for_others_are_counted_too(bench: Bench) -> None:
    bench.give(numbered(4))
    answer = held_up(4, rows={1})
    report = bench.pipeline([answer], parallel_size=4, ordered=True, target=1).run()
    assert [row["n"] for row in lines(bench.output)] == [0]
    assert report.nodes[0].beyond_target == 3


@pytest.mark.parametrize("extension", ["jsonl", "csv"])
@pytest.mark.parametrize("shape", ["list", "generator", "batch", "spilled"])
def test_a_result_that_crosses_the_target_is_cut_within_its_rows(
    bench: Bench, shape: str, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_datagen.streams.spill.SPILL_BYTES", 1)
    count = 1000 if shape == "spilled" else 9

    class Many(BaseOperator):
        version = "1"

        if shape == "batch":

            def process_batch(self, items: Any, ctx: INodeContext) -> Any:
                return [[{"n": item["n"], "k": f"a\n{k}"} for k in range(count)] for item in items]
        else:

            def process_item(self, item: Any, ctx: INodeContext) -> Any:
                rows = ({"n": item["n"], "k": f"a\n{k}"} for k in range(count))
                return rows if shape != "list" else list(rows)

    bench.give(numbered(10))
    out = f"{extension}://{bench.folder}/out.{extension}"
    target = count + 4
    pipeline = bench.pipeline([Many()], batch_size=5, ordered=True, output_uri=out, target=target)
    report = pipeline.run()
    rows = stored(out)
    assert [(int(row["n"]), row["k"]) for row in rows] == [
        *((0, f"a\n{k}") for k in range(count)),
        *((1, f"a\n{k}") for k in range(4)),
    ]
    assert [row["_i"] for row in rows] == [f"{n}_{k}" for n in (0, 1) for k in range(count)][:target]
    in_batch = 5 if shape == "batch" else 2
    assert report.nodes[0].cut_rows == in_batch * count - target
    assert report.nodes[0].rows_in == in_batch
    seal = json.loads(Path(f"{bench.folder}/out.{extension}.done").read_text())
    assert seal["ids"] == ["0_0", "1_3"]
    check(bench, pipeline)


class Total(BaseOperator):
    """Adds up, and says so at the end."""

    keeps_state = True
    version = "1"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        ctx.state["sum"] = ctx.state.get("sum", 0) + item["n"]
        return {**item, "sum": ctx.state["sum"]} if item["n"] % 3 == 0 else None

    def finish(self, ctx: INodeContext) -> Iterator[Any]:
        for k in range(5):
            yield {"total": ctx.state["sum"], "k": k}


def test_a_node_that_a_target_ends_is_not_asked_for_what_it_has_left(bench: Bench) -> None:
    bench.give(numbered(100))
    report = bench.pipeline([Total()], target=10).run()
    assert [row["n"] for row in lines(bench.output)] == list(range(0, 30, 3))
    assert report.nodes[0].rows_in == 28
    pipeline = bench.pipeline([Total()])
    pipeline.resume(report.pipeline_id, target=20).run()  # the state is that of the row which met the target
    assert [row["sum"] for row in lines(bench.output)] == [n * (n + 1) // 2 for n in range(0, 60, 3)]
    check(bench, pipeline)


def test_rows_of_the_end_count_and_are_cut(bench: Bench) -> None:
    bench.give(numbered(30))
    report = bench.pipeline([Total()], target=12).run()
    assert [(row["_i"]) for row in lines(bench.output)] == [*range(0, 30, 3), "end_0", "end_1"]
    assert (report.status, report.nodes[0].cut_rows, report.nodes[0].pending) == ("completed", 3, 0)
    pipeline = bench.pipeline([Total()])
    with pytest.raises(StreamChangedError, match=r"finish.*a target has cut that.*rerun"):
        pipeline.resume(report.pipeline_id, target=13)
    pipeline.resume(report.pipeline_id).run()
    check(bench, pipeline)
    assert len(lines(bench.output)) == 12
    pipeline.resume(report.pipeline_id, target=13, on_change="rerun").run()
    check(bench, pipeline)
    assert len(lines(bench.output)) == 13


# The input ends before.


def test_an_input_that_ends_before_the_target_completes_the_run_and_says_so(bench: Bench) -> None:
    bench.give(numbered(10))
    pipeline = bench.pipeline([even], target=6)
    report = pipeline.run()
    assert (report.status, report.is_short) == ("completed", True)
    assert report.warnings == ["node_0: its input has ended with 5 of the 6 rows of its target"]
    assert [line["message"] for line in bench.log_lines() if line["event"] == "[Target Missed]"] == [
        "its input has ended with 5 of the 6 rows of its target"
    ]
    check(bench, pipeline)
    again = pipeline.resume(report.pipeline_id).run()
    assert (again.is_short, again.rows_out) == (True, 5)
    with bench.input.open("a") as file:
        file.write('{"n": 10}\n{"n": 12}\n{"n": 14}\n')
    grown = pipeline.resume(report.pipeline_id).run()
    assert (grown.is_short, grown.rows_out, grown.warnings) == (False, 6, [])
    check(bench, pipeline)


def test_failed_rows_do_not_count(bench: Bench) -> None:
    def some(item: Any) -> Any:
        if item["n"] % 3 == 1:
            raise ValueError("no")
        return item if item["n"] % 3 == 0 else None

    bench.give(numbered(100))
    pipeline = bench.pipeline([some], on_error="dead_letter", target=5)
    report = pipeline.run()
    assert [row["n"] for row in lines(bench.output)] == [0, 3, 6, 9, 12]
    node = report.nodes[0]
    assert (node.rows_in, node.kept, node.filtered, node.dead_letters) == (13, 5, 4, 4)
    check(bench, pipeline)


# Resume.


@pytest.mark.slow
def test_a_target_can_be_raised(bench: Bench) -> None:
    bench.give(numbered(1000))
    made: list[int] = []

    def note(item: Any) -> Any:
        made.append(item["n"])
        return item

    pipeline = bench.pipeline([note, even], streaming=True, ordered=True, target=10)
    report = pipeline.run()
    pipeline.resume(report.pipeline_id, target=Target(25)).run()
    assert [row["n"] for row in lines(bench.output)] == list(range(0, 50, 2))
    check(bench, pipeline)
    pipeline.resume(report.pipeline_id, target={"node_1": 600}).run()
    assert [row["n"] for row in lines(bench.output)] == list(range(0, 1000, 2))
    assert pipeline.progress[1].target_rows == 600
    assert sorted(made) == list(range(1000))
    check(bench, pipeline)
    pipeline.resume(report.pipeline_id).run()
    assert pipeline.status is Status.COMPLETED


def test_a_lower_target_than_there_are_rows_is_refused_and_changes_nothing(bench: Bench) -> None:
    bench.give(numbered(100))
    pipeline = bench.pipeline([same], target=10)
    report = pipeline.run()
    before = bench.run_state(report.pipeline_id)
    with pytest.raises(ConfigError, match="node_0 has 10 rows already, more than 9"):
        pipeline.resume(report.pipeline_id, target=9)
    with pytest.raises(ConfigError, match="no node 'x', only node_0"):
        pipeline.resume(report.pipeline_id, target={"x": 9})
    with pytest.raises(ConfigError, match="target must be a whole number of at least 1, not 0"):
        pipeline.resume(report.pipeline_id, target=0)
    assert bench.run_state(report.pipeline_id) == before
    assert bench.is_sealed()


def test_a_target_of_the_code_that_is_not_used_is_told(bench: Bench) -> None:
    bench.give(numbered(100))
    report = bench.pipeline([same, same], target=10).run()
    with pytest.warns(ResumeWarning, match=r"goes on with target=10,.* the code gives target=20.*resume --target"):
        bench.pipeline([same, same], target=20).resume(report.pipeline_id)
    bench.pipeline([same, same], target=10).resume(report.pipeline_id, target=20).run()
    bench.pipeline([same, same], target=20).resume(report.pipeline_id).run()
    assert len(lines(bench.output)) == 20


def test_a_target_may_be_given_to_a_run_that_has_none(bench: Bench) -> None:
    bench.give(numbered(1000))
    pipeline = bench.pipeline([same, Stopping(100)], streaming=True, keep_ids=False)
    report = pipeline.run()
    assert report.status == "stopped"
    again = bench.pipeline([same, Stopping()])
    again.resume(report.pipeline_id, target=150).run()
    assert len(lines(bench.output)) == 150
    assert [node.target_rows for node in again.progress] == [None, 150, None]
    check(bench, again)


def test_a_node_behind_that_has_given_its_end_forbids_to_raise_a_target(bench: Bench) -> None:
    bench.give(numbered(100))
    pipeline = bench.pipeline([same, Total()], node_configs=[NodeConfig(target=10)])
    report = pipeline.run()
    assert len(lines(bench.output)) == 4 + 5
    with pytest.raises(StreamChangedError, match=r"node_1 \(Total\): .*more rows would come to it"):
        pipeline.resume(report.pipeline_id, target=20)
    check(bench, pipeline)


def test_rows_that_may_not_be_called_again_forbid_to_raise_a_target(bench: Bench) -> None:
    bench.give(numbered(2))
    answer = held_up(2, rows={1})
    pipeline = bench.pipeline([answer], parallel_size=2, delivery="at_most_once", target=1)
    report = pipeline.run()
    assert report.nodes[0].beyond_target == 1
    with pytest.raises(ConfigError, match=r"1 rows were in the operator of node_0 .*at_most_once"):
        pipeline.resume(report.pipeline_id, target=2)
    check(bench, pipeline)


def test_a_run_that_was_stopped_before_its_target_goes_on_to_it(bench: Bench) -> None:
    bench.give(numbered(1000))
    pipeline = bench.pipeline([same, Stopping(77)], streaming=True, target=100)
    assert pipeline.run().status == "stopped"
    again = bench.pipeline([same, Stopping()])
    again.resume(pipeline.pipeline_id).run()
    assert len(lines(bench.output)) == 100
    check(bench, again)


def test_a_run_that_died_behind_its_last_row_is_sealed_without_a_call(bench: Bench) -> None:
    """As after `kill -9` between the commit of the last row and the seal."""
    bench.give(numbered(100))
    calls: list[Any] = []

    def note(item: Any) -> Any:
        calls.append(item)
        return item

    pipeline = bench.pipeline([same, note], streaming=True, target=10)
    report = pipeline.run()
    made = len(calls)
    pipeline.nodes[1].output.unseal()
    run_state = bench.run_state(report.pipeline_id)
    run_state["status"] = "running"
    bench.put_run_state(report.pipeline_id, run_state)
    pipeline.resume(report.pipeline_id).run()
    assert (len(calls), len(lines(bench.output))) == (made, 10)
    check(bench, pipeline)


def test_a_diff_counts_what_is_left_until_the_target_is_met(bench: Bench) -> None:
    bench.give(numbered(1000))

    class Accepting(BaseOperator):
        def __init__(self, version: str) -> None:
            self.version = version

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            return even(item)

    pipeline = bench.pipeline([same_slowly, Accepting("1")], streaming=True, ordered=True, target=10)
    report = pipeline.run()
    assert [each.rows_to_do for each in pipeline.diff(report.pipeline_id).nodes] == [0, 0]
    edited = bench.pipeline([same_slowly, Accepting("2")], target=10).diff(report.pipeline_id)
    assert [(each.what, each.is_estimate, each.is_at_most) for each in edited.nodes] == [
        ("kept", True, False),
        ("redone", True, False),
    ]
    # Ten rows had come of the first 19, and node_0 has done these.
    assert [each.rows_to_do for each in edited.nodes] == [0, 19]
    assert edited.notes[-1].startswith("node_0: ended by a target behind; until it is met, more rows")


class Versioned(BaseOperator):
    """Keeps even rows, or all.

    Args:
        version: the operator's.
    """

    def __init__(self, version: str, *, is_even: bool = False) -> None:
        self.version, self._is_even = version, is_even

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return even(item) if self._is_even else item


def versioned(bench: Bench, *versions: str, streaming: bool = True, target: int = 10) -> UnifiedPipeline:
    """Return a line: the second step keeps even rows, and the last one is to write `target` rows."""
    steps = [Versioned(version, is_even=number == 1) for number, version in enumerate(versions)]
    lead = {"max_lead": 50} if streaming else {}
    return bench.pipeline(steps, streaming=streaming, ordered=True, target=target, **lead)


def to_do(pipeline: UnifiedPipeline) -> list[tuple[int | None, str]]:
    return [(each.rows_to_do, each.mark) for each in pipeline.diff("a").nodes]


def test_a_diff_counts_rows_back_from_a_target_through_all_that_is_done_again(bench: Bench) -> None:
    bench.give(numbered(5000))
    versioned(bench, "1", "1", "1").create("a").run()
    assert to_do(versioned(bench, "1", "1", "1")) == [(0, "")] * 3
    redone = to_do(versioned(bench, "2", "1", "1"))
    # About half of the rows pass the second step, by those that it has done: 19 or more rows are needed for ten.
    assert [mark for _, mark in redone] == ["~"] * 3
    assert redone[2] == (10, "~")
    assert redone[0] == redone[1]
    assert redone[0][0] in range(19, 22)
    pipeline = versioned(bench, "2", "1", "1", streaming=False)
    pipeline.create("b", output_uri=f"jsonl://{bench.folder}/b/out.jsonl").run()
    # One after the other, the steps before the target do all of their input.
    edited = versioned(bench, "3", "1", "1", streaming=False).diff("b")
    assert [(each.rows_to_do, each.is_at_most) for each in edited.nodes] == [(5000, False), (5000, False), (10, False)]


def test_a_diff_says_at_most_where_nobody_knows_when_the_target_is_met(bench: Bench) -> None:
    bench.give(numbered(500))
    versioned(bench, "1", "1", "1").create("a").run()
    pipeline = bench.pipeline(
        [Versioned("2"), Versioned("1", is_even=True), even, Versioned("1")], streaming=True, ordered=True, target=10
    )
    diff = pipeline.diff("a")
    assert [(each.rows_to_do, each.mark) for each in diff.nodes[:2]] == [(500, "≤"), (500, "≤")]
    assert diff.notes[-2].startswith("node_0, node_1, node_2, node_3: at most; a target ends the run earlier")


def test_an_earlier_version_keeps_which_nodes_were_unneeded(bench: Bench) -> None:
    bench.give(numbered(5000))
    versioned(bench, "1", "1", "1").create("a").run()
    assert [entry["status"] for entry in bench.run_state("a")["nodes"]] == ["unneeded", "unneeded", "completed"]
    # The target that is raised with the edit is that of the new version.
    versioned(bench, "1", "1", "2", target=20).resume("a", on_change="rerun", target=20).run()
    for run, target in (("a@1", 10), ("a", 20)):
        run_state = bench.run_state(run)
        assert [entry["status"] for entry in run_state["nodes"]] == ["unneeded", "unneeded", "completed"]
        accounts = verify(run_state)
        assert [account.findings for account in accounts] == [[], [], []]
        assert [account.unneeded for account in accounts] == [True, True, False]
        assert (accounts[2].target_rows, run_state["nodes"][2]["target"]) == (target, target)
    # Versions that were kept before said that these nodes are pending.
    run_state = bench.run_state("a@1")
    run_state["nodes"][0]["status"] = run_state["nodes"][1]["status"] = "pending"
    assert [account.findings for account in verify(run_state)] == [[], [], []]


# Replay.


def test_a_replay_does_not_exceed_the_target(bench: Bench) -> None:
    is_mended = threading.Event()

    def some(item: Any) -> Any:
        if item["n"] % 2 and not is_mended.is_set():
            raise ValueError("no")
        return item

    some.version = "1"  # type: ignore[attr-defined]
    bench.give(numbered(100))
    pipeline = bench.pipeline([same, some], on_error="dead_letter", target=60)
    report = pipeline.run()
    assert (report.rows_out, report.is_short, report.nodes[1].dead_letters) == (50, True, 50)
    is_mended.set()
    pipeline.replay(report.pipeline_id).run()
    assert len(lines(bench.output)) == 60
    check(bench, pipeline)


def test_a_replay_leaves_the_dead_letters_of_a_node_whose_target_is_met(bench: Bench) -> None:
    def some(item: Any) -> Any:
        if item["n"] % 2:
            raise ValueError("no")
        return item

    bench.give(numbered(100))
    pipeline = bench.pipeline([some, some], streaming=False, on_error="dead_letter", target=10)
    report = pipeline.run()
    with pytest.warns(ResumeWarning, match=r"dead letters of node_0 stay as they are: the target of a node behind it"):
        pipeline.replay(report.pipeline_id)
    pipeline.run()
    assert pipeline.progress[0].dead_letters == 50
    check(bench, pipeline)
    pipeline = bench.pipeline([some], on_error="dead_letter", target=10, output_uri=f"jsonl://{bench.folder}/two.jsonl")
    report = pipeline.run()
    with pytest.warns(ResumeWarning, match=r"node_0 stay as they are: the target of the node is met.*resume --target"):
        pipeline.replay(report.pipeline_id)
    pipeline.run()
    assert pipeline.progress[0].dead_letters == 9
    check(bench, pipeline)


# The same moment.


def test_errors_beyond_the_limit_that_come_after_the_target_do_not_fail_the_run(bench: Bench) -> None:
    bench.give(numbered(2))
    together = threading.Barrier(2)

    def answer(item: Any, ctx: INodeContext) -> Any:
        together.wait(60)
        if item["n"] == 0:
            return item
        until_cancelled(ctx)
        raise ValueError("too late to matter")

    answer.version = "1"  # type: ignore[attr-defined]
    pipeline = bench.pipeline([answer], parallel_size=2, target=1)
    assert pipeline.run().status == "completed"
    check(bench, pipeline)


def test_errors_beyond_the_limit_before_the_target_fail_the_run(bench: Bench) -> None:
    def answer(item: Any) -> Any:
        if item["n"] % 2:
            raise ValueError("no")
        return item

    bench.give(numbered(100))
    pipeline = bench.pipeline([answer], on_error="skip", max_errors=3, target=50)
    with pytest.raises(NodeFailedError):
        pipeline.run()
    assert pipeline.status is Status.FAILED
    report = pipeline.resume(pipeline.pipeline_id, max_errors=100).run()
    assert report.rows_out == 50


@pytest.mark.parametrize("who", ["before", "target"])
def test_a_budget_that_ends_when_the_target_is_met_stops_nothing(bench: Bench, who: str) -> None:
    class Ending(BaseOperator):
        version = "1"

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            if item["n"] < 5:
                time.sleep(0.005)  # a slow call has a task of its own, so that none of these rows waits for the sixth
                return item
            until_cancelled(ctx)
            raise StopRun("the budget is used up")

    bench.give(numbered(100))
    operators = [Ending(), same] if who == "before" else [same, Ending()]
    pipeline = bench.pipeline(operators, streaming=True, parallel_size=8, target=5)
    assert pipeline.run().status == "completed"
    check(bench, pipeline)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("command", ["cancel", "pause"])
def test_a_cancel_or_a_pause_at_the_same_moment_leaves_the_target_exact(bench: Bench, command: str) -> None:
    bench.give(numbered(3000))
    for attempt in range(5):
        pipeline = bench.pipeline(
            [same, even],
            streaming=True,
            parallel_size=4,
            target=200 * attempt + 3,
            output_uri=f"jsonl://{bench.folder}/out{attempt}.jsonl",
            writer_config={"flush_batch_size": 1},
        )
        ref = pipeline.start()
        out = bench.folder / f"out{attempt}.jsonl"
        eventually(functools.partial(has_rows, out))
        if command == "cancel":
            ref.tell(Cancel("enough"))
        elif ref.is_alive():
            ref.tell(Pause())
            ref.tell(Unpause())
        report = pipeline.wait()
        assert report.rows_out <= 200 * attempt + 3
        if report.status != "completed":
            pipeline.resume(pipeline.pipeline_id).run()
        assert len(lines(out)) == 200 * attempt + 3
        check(bench, pipeline)


def has_rows(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


# Graphs.


def nodes_of(bench: Bench, *nodes: UnifiedNode) -> UnifiedNodePipeline:
    return UnifiedNodePipeline(list(nodes), results_dir=bench.results, log_file=bench.log)


def node(bench: Bench, name: str, source: Any, output: Any, operator: Any, route: Any = None, **settings: Any) -> Any:
    def path(end: Any) -> Any:
        if isinstance(end, dict):
            return {key: path(value) for key, value in end.items()}
        return [path(each) for each in end] if isinstance(end, list) else f"jsonl://{bench.folder}/{end}.jsonl"

    bound = UnifiedNode(name, follow_input=source != "in", **settings).bind_io(path(source), path(output), route=route)
    return bound.set_operator(operator)


def test_a_node_is_needed_as_long_as_another_branch_reads_it(bench: Bench) -> None:
    bench.give(numbered(500))
    pipeline = nodes_of(
        bench,
        node(bench, "a", "in", "a", same),
        node(bench, "b", "a", "b", same, target=7),
        node(bench, "c", "a", "c", same),
    )
    report = pipeline.run()
    assert {each.node_id: (each.status, each.rows_out) for each in report.nodes} == {
        "a": ("completed", 500),
        "b": ("completed", 7),
        "c": ("completed", 500),
    }
    check(bench, pipeline)


@pytest.mark.slow
def test_two_targets_end_what_both_read(bench: Bench) -> None:
    write_jsonl(bench.input, numbered(3000))
    pipeline = nodes_of(
        bench,
        node(bench, "a", "in", "a", same_slowly),
        node(bench, "b", "a", "b", same, target=7),
        node(bench, "c", "b", "c", thirds),
        node(bench, "d", "a", "d", even, target=11),
    )
    report = pipeline.run()
    assert {each.node_id: (each.status, each.rows_out) for each in report.nodes if each.node_id != "a"} == {
        "b": ("completed", 7),
        "c": ("completed", 21),
        "d": ("completed", 11),
    }
    assert report.nodes[0].status == "unneeded"
    check(bench, pipeline)
    with pytest.raises(ConfigError, match="several nodes may be meant: b, d"):
        pipeline.resume(report.pipeline_id, target=20)
    pipeline.resume(report.pipeline_id, target={"b": 20}).run()
    assert [len(lines(bench.folder / f"{name}.jsonl")) for name in "bcd"] == [20, 60, 11]
    check(bench, pipeline)


def test_a_node_with_a_target_of_its_own_is_needed_until_that_is_met(bench: Bench) -> None:
    bench.give(numbered(500))
    pipeline = bench.pipeline([same_slowly, same], streaming=True, target=3, node_configs=[NodeConfig(target=100)])
    report = pipeline.run()
    assert [each.rows_out for each in report.nodes] == [100, 3]
    check(bench, pipeline)


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [True, False])
def test_targets_of_nodes_with_several_inputs_and_outputs_count_all_rows(bench: Bench, streaming: bool) -> None:
    write_jsonl(bench.folder / "left.jsonl", numbered(300))
    write_jsonl(bench.folder / "right.jsonl", numbered(300))

    def way(item: Any) -> str:
        return "odd" if item["n"] % 2 else "even"

    merged = UnifiedNode("m", target=40, follow_input=False).bind_io(
        {name: f"jsonl://{bench.folder}/{name}.jsonl" for name in ("left", "right")},
        {name: f"jsonl://{bench.folder}/{name}.jsonl" for name in ("odd", "even")},
        route=way,
    )
    merged.set_operator(same)
    pipeline = UnifiedNodePipeline([merged], streaming=streaming, results_dir=bench.results, log_file=bench.log)
    report = pipeline.run()
    assert sum(len(stored(f"jsonl://{bench.folder}/{name}.jsonl")) for name in ("odd", "even")) == 40
    assert report.status == "completed"
    check(bench, pipeline)
    pipeline.resume(report.pipeline_id, target={"m": 55}).run()
    assert sum(len(stored(f"jsonl://{bench.folder}/{name}.jsonl")) for name in ("odd", "even")) == 55
    check(bench, pipeline)


def test_routes_of_an_operator_count_as_rows(bench: Bench) -> None:
    bench.give(numbered(100))
    pipeline = nodes_of(
        bench,
        node(
            bench, "r", "in", {"a": "a", "b": "b"}, lambda item: Route("a" if item["n"] < 8 else "b", item), target=12
        ),
    )
    pipeline.run()
    assert [len(lines(bench.folder / f"{name}.jsonl")) for name in "ab"] == [8, 4]
    check(bench, pipeline)


@pytest.mark.slow
def test_a_node_that_may_not_get_far_ahead_waits_for_no_reader_whose_target_is_met(bench: Bench) -> None:
    bench.give(numbered(500))
    pipeline = nodes_of(
        bench,
        node(bench, "a", "in", "a", same, max_lead=5),
        node(bench, "b", "a", "b", same, target=3),
        node(bench, "c", "a", "c", same),
    )
    report = pipeline.run()
    assert [each.rows_out for each in sorted(report.nodes, key=lambda each: each.node_id)] == [500, 3, 500]
    check(bench, pipeline)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
def test_a_target_ends_an_input_without_end(bench: Bench, streaming: bool) -> None:
    rows = Generate({"n": list(range(100))}, seed=3)
    operators: list[Any] = [same, even] if streaming else [even]
    pipeline = bench.pipeline(operators, streaming=streaming, input_uri=None, input=rows, target=120)
    assert pipeline.run().status == "completed"
    pipeline.resume(pipeline.pipeline_id, target=150).run()
    assert len(lines(bench.output)) == 150
    check(bench, pipeline)


# A node by itself, outputs, settings.


def test_a_node_by_itself_has_a_target(bench: Bench) -> None:
    bench.give(numbered(100))
    alone = node(bench, "n", "in", "out", same, target=9, log_file=None)
    assert alone.run().rows_out == 9
    assert len(stored(f"jsonl://{bench.output}")) == 9
    alone.run()
    assert len(lines(bench.output)) == 9


def test_a_node_that_is_opened_and_closed_has_a_target(bench: Bench) -> None:
    bench.give(numbered(100))
    alone = node(bench, "n", "in", "out", same, target=9, log_file=None)
    alone.open()
    assert alone.run().rows_out == 9
    alone.close()
    assert len(stored(f"jsonl://{bench.output}")) == 9
    assert alone.is_finished()


def test_exports_are_made_of_the_rows_of_the_target(bench: Bench) -> None:
    bench.give(numbered(100))
    other = bench.folder / "copy.csv"
    pipeline = bench.pipeline([same], target=9, also=[f"csv://{other}"], keep_ids=False)
    pipeline.run()
    assert len(other.read_text().splitlines()) == 10
    pipeline.resume(pipeline.pipeline_id, target=12).run()
    assert len(other.read_text().splitlines()) == 13
    check(bench, pipeline)


@pytest.mark.slow
def test_an_output_in_a_store_has_a_target(bench: Bench, s3: S3Bucket) -> None:
    bench.give(numbered(100))
    pipeline = bench.pipeline(
        [same, thirds], output_uri=s3.uri("out.jsonl"), ordered=True, target=31, writer_config={"flush_interval": 0.02}
    )
    pipeline.run()
    wanted = [f"{n}_{k}" for n in range(100) for k in range(3)]
    assert [row["_i"] for row in stored(s3.uri("out.jsonl"))] == wanted[:31]
    pipeline.resume(pipeline.pipeline_id, target=61).run()
    # Rows 1 and 2 of row 10 were beyond the first target, and do not come back.
    kept = [name for name in wanted if name not in ("10_1", "10_2")]
    assert [row["_i"] for row in stored(s3.uri("out.jsonl"))] == kept[:61]
    check(bench, pipeline)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (0, "at least 1, not 0"),
        (True, "at least 1, not True"),
        ("10", "at least 1, not '10'"),
        (2.0, "at least 1, not 2.0"),
        ({"count": 3, "rows": "all"}, "Target.rows must be one of 'accepted', not 'all'"),
        ({"counts": 3}, "has no setting 'counts'"),
        ({}, "target must say 'count'"),
    ],
)
def test_a_target_that_is_none_is_refused(bench: Bench, target: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        bench.pipeline([same], target=target)


@pytest.mark.parametrize("target", [5, Target(5), Target(5, rows="accepted"), {"count": 5}])
def test_a_target_is_a_number_or_an_object_or_a_dict(bench: Bench, target: Any) -> None:
    bench.give(numbered(10))
    report: RunReport = bench.pipeline([same, same], target=target).run()
    assert [each.target_rows for each in report.nodes] == [None, 5]
    assert RunFolder(bench.results, report.pipeline_id).load()["nodes"][1]["target"] == 5


def test_an_input_that_grows_after_the_target_changes_nothing(bench: Bench) -> None:
    bench.give(numbered(20))
    pipeline = bench.pipeline([same], target=20)
    report = pipeline.run()
    with bench.input.open("a") as file:
        file.write('{"n": 20}\n')
    pipeline.resume(report.pipeline_id).run()
    assert len(lines(bench.output)) == 20
    pipeline.resume(report.pipeline_id, target=21).run()
    assert len(lines(bench.output)) == 21
    check(bench, pipeline)


def test_an_input_that_was_edited_is_refused_when_a_target_is_raised(bench: Bench) -> None:
    bench.give(numbered(20))
    pipeline = bench.pipeline([same], target=10)
    report = pipeline.run()
    bench.give({"n": -n} for n in range(20))
    with pytest.raises(StreamChangedError):
        pipeline.resume(report.pipeline_id, target=12)
    assert bench.is_sealed()
