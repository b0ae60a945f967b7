"""UnifiedNode by itself, and nodes wired by hand (M9, M17, M18, M31)."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    DefaultPipelineHooks,
    FunctionOperator,
    INodeContext,
    JsonlStream,
    NodeFailedError,
    OperatorMismatchError,
    PipelineExistsError,
    Status,
    StreamFactory,
    StreamIdleError,
    StreamMissingError,
    UnifiedNode,
    UnifiedNodePipeline,
)

from ..kit.support import (
    PATIENCE_SECONDS,
    QUICK,
    Bench,
    Calls,
    bag,
    eventually,
    instrument,
    lines,
    numbered,
    until_cancelled,
    write_jsonl,
)


def node(bench: Bench, name: str = "n", **settings: Any) -> UnifiedNode:
    """Return a node that logs into the bench."""
    return UnifiedNode(name, **{"log_file": bench.log, "writer_config": QUICK, **settings})


def same(items: Sequence[Any], ctx: INodeContext) -> list[Any]:
    return list(items)


# --- by itself -----------------------------------------------------------------------------------------------------


def test_the_example_of_chapter_7_runs_unchanged(tmp_path: Path) -> None:
    """M9 (7.1 of the manual), with an input that is sealed as chapter 11 says."""
    write_jsonl(tmp_path / "in.jsonl", numbered(100))
    JsonlStream("jsonl://in.jsonl").seal()
    sizes: list[int] = []

    def my_logic_func(items, ctx):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        sizes.append(len(items))
        return [{"n": item["n"] * 2} for item in items]

    node = UnifiedNode(node_id="custom_node", parallel_size=10, batch_size=20)
    node.bind_io(
        input_bus=StreamFactory.create("jsonl://in.jsonl"),
        output_bus=StreamFactory.create("jsonl://out.jsonl"),
    )
    node.set_processor(my_logic_func)
    node.run()
    assert bag(lines(tmp_path / "out.jsonl")) == bag({"n": n * 2, "_i": n} for n in range(100))
    assert (tmp_path / "out.jsonl.done").exists()
    assert sizes == [20] * 5
    assert node.status == Status.COMPLETED
    assert (node.progress.rows_in, node.progress.rows_out) == (100, 100)
    assert (tmp_path / "logs" / "platform.log").exists()


def test_the_example_of_chapter_11_runs_unchanged(tmp_path: Path) -> None:
    """M9, M17 (11.2 of the manual): seal() by hand, bind_io, and the node in a UnifiedNodePipeline."""
    write_jsonl(tmp_path / "my_input.jsonl", numbered(50))

    def my_logic_func(items, ctx):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return items

    node = UnifiedNode(node_id="n1", parallel_size=5, batch_size=10)
    in_stream = StreamFactory.create("jsonl://my_input.jsonl")
    in_stream.seal()
    out_stream = StreamFactory.create("jsonl://my_output.jsonl")
    node.bind_io(input_bus=in_stream, output_bus=out_stream)
    node.set_processor(my_logic_func)
    pipeline = UnifiedNodePipeline([node])
    report = pipeline.run()
    assert report.status == Status.COMPLETED
    assert bag(lines(tmp_path / "my_output.jsonl")) == bag({"n": n, "_i": n} for n in range(50))
    assert out_stream.is_sealed()
    run_state = json.loads((tmp_path / "tmp" / "results" / report.pipeline_id / "runtime.json").read_bytes())
    assert [entry["node_id"] for entry in run_state["nodes"]] == ["n1"]


def test_a_node_can_be_opened_run_and_closed_in_steps(bench: Bench) -> None:
    """M9, S2: run() between open() and close() leaves the stream open; close() seals it."""
    bench.give(numbered(30))
    single = node(bench, follow_input=False).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    single.set_processor(same)
    statuses = [single.status]
    single.open()
    single.run()
    statuses.append(single.status)
    assert statuses == [Status.PENDING, Status.COMPLETED]
    assert len(lines(bench.output)) == 30
    assert not bench.is_sealed()
    single.close()
    assert bench.is_sealed()
    single.close()  # once is enough, and twice is no harm
    assert JsonlStream(f"jsonl://{bench.output}").is_sealed()
    assert not Path(f"{bench.output}.commits").exists()


def test_closing_a_node_that_failed_or_never_ran_seals_nothing(bench: Bench) -> None:
    """S2: close() seals on success only."""
    bench.give(numbered(30))
    single = node(bench, follow_input=False).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    single.set_processor(lambda items, ctx: 1 / 0)
    single.open()
    single.close()
    assert not bench.is_sealed()
    single.open()
    with pytest.raises(NodeFailedError, match="ZeroDivisionError"):
        single.run()
    assert single.status == Status.FAILED
    single.close()
    assert not bench.is_sealed()
    single.set_processor(same)
    assert single.run().status == Status.COMPLETED
    assert bench.is_sealed()
    assert len(lines(bench.output)) == 30


def test_a_node_waits_for_the_seal_and_goes_on_when_it_comes(bench: Bench) -> None:
    """M17, M18 (8.1, 12.1 of the manual): an input that is not sealed may grow; `[EOF Retry]` is in the log."""
    bench.give(numbered(10))
    source = JsonlStream(f"jsonl://{bench.input}")
    single = node(bench, parallel_size=2).bind_io(source, f"jsonl://{bench.output}").set_processor(same)
    thread = threading.Thread(target=single.run)
    thread.start()
    eventually(lambda: bench.log.exists() and bench.log.read_text().count("[EOF Retry]") >= 2)
    assert single.status == Status.RUNNING
    assert len(lines(bench.output)) == 10  # what is there is done meanwhile
    assert not bench.is_sealed()
    with bench.input.open("a") as file:
        file.write('{"n": 10}\n{"n": 11}\n')
    eventually(lambda: len(lines(bench.output)) == 12)
    source.seal()
    thread.join(PATIENCE_SECONDS)
    assert bench.is_sealed()
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(12))


def test_a_seal_made_by_touch_counts(bench: Bench) -> None:
    """M17: a `.done` that another program made with `touch` ends a stream."""
    bench.give(numbered(10))
    Path(f"{bench.input}.done").touch()
    single = node(bench).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_processor(same)
    assert single.run().rows_out == 10


def test_a_node_may_be_started_before_its_input_exists(bench: Bench) -> None:
    """M18: no data and no seal: the reader waits until there is something."""
    single = node(bench).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_processor(same)
    thread = threading.Thread(target=single.run)
    thread.start()
    eventually(lambda: bench.log.exists() and "[EOF Retry]" in bench.log.read_text())
    with StreamFactory.create(f"jsonl://{bench.input}").get_writer() as writer:
        writer.write(numbered(5))
    thread.join(PATIENCE_SECONDS)
    assert len(lines(bench.output)) == 5


def test_an_input_that_is_never_sealed_is_an_error_after_idle_timeout(bench: Bench) -> None:
    """M18: what is there is done and saved; the error says which file, and what to do."""
    bench.give(numbered(10))
    single = node(bench, idle_timeout=0.3).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    single.set_processor(same)
    with pytest.raises(NodeFailedError) as caught:
        single.run()
    assert isinstance(caught.value.__cause__, StreamIdleError)
    assert str(bench.input) in str(caught.value)
    assert "seal()" in str(caught.value)
    assert len(lines(bench.output)) == 10
    assert not bench.is_sealed()
    JsonlStream(f"jsonl://{bench.input}").seal()
    assert single.run().rows_out == 10


def test_idle_timeout_of_a_pipeline_is_that_of_its_input(bench: Bench) -> None:
    """M18: a node that waits for a slow node before it does not wait for an input that nobody seals."""
    bench.give(numbered(3))

    def slow(item: Any) -> Any:
        time.sleep(0.3)
        return item

    bench.pipeline([slow, lambda item: item], streaming=True, idle_timeout=0.15).run()


def test_follow_input_false_takes_the_input_as_it_is(bench: Bench) -> None:
    """M17: and says so when there is none."""
    single = node(bench, follow_input=False).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    single.set_processor(same)
    with pytest.raises(StreamMissingError, match=str(bench.input)):
        single.run()
    bench.give(numbered(4))
    assert single.run().rows_out == 4


def test_a_cancelled_node_goes_on_when_it_is_run_again(bench: Bench) -> None:
    """M9, M7: cancel() from another thread; every row is done once, in the end."""
    bench.give(numbered(200))
    calls = Calls(bench.folder / "calls")
    here = threading.Event()
    single = node(bench, parallel_size=3, batch_size=4, follow_input=False)

    def work(items: Sequence[Any], ctx: INodeContext) -> Any:
        for item in items:
            calls.note(item["_i"])
            if item["n"] == 60:
                here.set()
                until_cancelled(ctx)
        return list(items)

    single.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_processor(work)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(single.run()))
    thread.start()
    here.wait(PATIENCE_SECONDS)
    single.cancel()
    thread.join(PATIENCE_SECONDS)
    assert results[0].status == single.status == Status.CANCELED
    assert not bench.is_sealed()
    done = len(lines(bench.output))
    assert 0 < done < 200
    assert single.progress.rows_in == done
    again = UnifiedNode("n", 3, 4, follow_input=False, log_file=None)
    again.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_processor(work)
    assert again.run().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(200))
    assert calls.all() == {str(n): 1 for n in range(200)}
    assert again.run().status == Status.COMPLETED  # a finished node has nothing to do
    assert sum(calls.all().values()) == 200


def test_a_node_tells_its_settings_and_progress(bench: Bench) -> None:
    """M9: `get_runtime()`, `status`, `progress`; hooks of a node's own."""
    bench.give(numbered(10))
    told: list[Any] = []

    class Hooks(DefaultPipelineHooks):
        def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
            told.append((cid, nid, success))

    single = node(bench, "alone", parallel_size=2, batch_size=3, follow_input=False, hooks=Hooks())
    single.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_processor(same)
    assert single.get_runtime()["status"] == "pending"
    single.run()
    runtime = json.loads(json.dumps(single.get_runtime()))
    assert (runtime["node_id"], runtime["status"], runtime["rows_in"], runtime["batch_size"]) == (
        "alone",
        "completed",
        10,
        3,
    )
    assert told == [("", "alone", True)]


def test_an_output_made_from_another_input_is_not_continued(bench: Bench) -> None:
    """M22: a node that is bound to another input may not go on with the same output."""
    bench.give(numbered(10))
    other = write_jsonl(bench.folder / "other.jsonl", numbered(20))
    first = node(bench, follow_input=False).bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}")
    first.set_processor(lambda items, ctx: 1 / 0)
    with pytest.raises(NodeFailedError):
        first.run()
    second = node(bench, follow_input=False).bind_io(f"jsonl://{other}", f"jsonl://{bench.output}")
    second.set_processor(same)
    with pytest.raises(Exception, match=str(bench.output)):
        second.run()


# --- wired by hand -------------------------------------------------------------------------------------------------


def wired(bench: Bench, *wires: tuple[str, str, str], **settings: Any) -> list[UnifiedNode]:
    """Return nodes: (id, input file, output file)."""
    return [
        node(bench, name, **settings)
        .bind_io(f"jsonl://{bench.folder / source}", f"jsonl://{bench.folder / target}")
        .set_processor(same)
        for name, source, target in wires
    ]


def run(bench: Bench, nodes: list[UnifiedNode], **settings: Any) -> UnifiedNodePipeline:
    return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=bench.log, **settings)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_nodes_in_any_order_of_the_list(bench: Bench, streaming: bool, order: tuple[int, ...]) -> None:
    """M9: the topology follows from the streams, not from the order of the list."""
    bench.give(numbered(60))
    JsonlStream(f"jsonl://{bench.input}").seal()
    nodes = wired(
        bench, ("a", "in.jsonl", "a.jsonl"), ("b", "a.jsonl", "b.jsonl"), ("c", "b.jsonl", "c.jsonl"), parallel_size=2
    )
    report = run(bench, [nodes[n] for n in order], streaming=streaming).run()
    assert report.status == Status.COMPLETED
    assert bag(lines(bench.folder / "c.jsonl")) == bag({"n": n, "_i": n} for n in range(60))
    assert all(Path(bench.folder, f"{name}.jsonl.done").exists() for name in "abc")


@pytest.mark.parametrize("streaming", [True, False])
def test_one_stream_may_be_read_by_two_nodes(bench: Bench, streaming: bool) -> None:
    """M31: fan-out is two readers of one stream: each gets every row."""
    bench.give(numbered(80))
    JsonlStream(f"jsonl://{bench.input}").seal()
    nodes = wired(
        bench,
        ("left", "middle.jsonl", "left.jsonl"),
        ("source", "in.jsonl", "middle.jsonl"),
        ("right", "middle.jsonl", "right.jsonl"),
        ("raw", "in.jsonl", "raw.jsonl"),
    )
    run(bench, nodes, streaming=streaming).run()
    for name in ("left", "right", "raw"):
        assert bag(lines(bench.folder / f"{name}.jsonl")) == bag({"n": n, "_i": n} for n in range(80)), name


@pytest.mark.parametrize("streaming", [True, False])
def test_nodes_wired_by_hand_resume_by_their_run_state(bench: Bench, streaming: bool) -> None:
    """M6, M9, M31: a branch that failed is resumed; what is done is not done again."""
    bench.give(numbered(100))
    JsonlStream(f"jsonl://{bench.input}").seal()
    calls = Calls(bench.folder / "calls")
    fail = True

    def work(item: Any) -> Any:
        calls.note(item["_i"])
        if fail and item["n"] == 50:
            raise RuntimeError("not yet")
        return item

    def nodes() -> list[UnifiedNode]:
        made = wired(bench, ("a", "in.jsonl", "a.jsonl"), ("b", "a.jsonl", "b.jsonl"), ("c", "a.jsonl", "c.jsonl"))
        made[1].set_operator(instrument(FunctionOperator(work, name="work")))
        return made

    with pytest.raises(NodeFailedError, match="not yet") as caught:
        run(bench, nodes(), streaming=streaming).create("x").run()
    assert caught.value.node_id == "b"
    with pytest.raises(PipelineExistsError):
        run(bench, nodes()).create("x")
    fail = False
    report = run(bench, nodes(), streaming=streaming).resume("x").run()
    assert report.status == Status.COMPLETED
    for name in "abc":
        assert bag(lines(bench.folder / f"{name}.jsonl")) == bag({"n": n, "_i": n} for n in range(100))
    assert {row for row, times in calls.all().items() if times > 1} <= {str(n) for n in range(40, 100)}
    assert sum(calls.all().values()) <= 100 + 60


@pytest.mark.parametrize("streaming", [True, False])
def test_nodes_know_how_they_fared_in_a_pipeline(bench: Bench, streaming: bool) -> None:
    """M9: `status` and `progress` of a node that ran inside a UnifiedNodePipeline."""
    bench.give(numbered(10))
    JsonlStream(f"jsonl://{bench.input}").seal()
    nodes = wired(bench, ("a", "in.jsonl", "a.jsonl"), ("b", "a.jsonl", "b.jsonl"))
    run(bench, nodes, streaming=streaming).run()
    assert [single.status for single in nodes] == [Status.COMPLETED, Status.COMPLETED]
    assert [single.progress.rows_out for single in nodes] == [10, 10]


def test_a_resume_matches_nodes_by_their_ids_not_by_their_order(bench: Bench) -> None:
    """M6, M9: branches whose operators have the same name keep theirs when the list is in another order."""
    bench.give(numbered(60))
    JsonlStream(f"jsonl://{bench.input}").seal()
    fail = True

    def nodes() -> list[UnifiedNode]:
        left, right = wired(bench, ("left", "in.jsonl", "left.jsonl"), ("right", "in.jsonl", "right.jsonl"))

        def add(amount: int) -> Any:
            def add(item: Any) -> Any:
                if fail and item["n"] == 30:
                    raise RuntimeError
                return {"n": item["n"] + amount}

            return add

        return [left.set_operator(instrument(add(1000))), right.set_operator(instrument(add(2000)))]

    with pytest.raises(NodeFailedError):
        run(bench, nodes()).create("x").run()
    fail = False
    run(bench, list(reversed(nodes()))).resume("x").run()
    assert bag(lines(bench.folder / "left.jsonl")) == bag({"n": n + 1000, "_i": n} for n in range(60))
    assert bag(lines(bench.folder / "right.jsonl")) == bag({"n": n + 2000, "_i": n} for n in range(60))
    renamed = nodes()
    renamed[0].node_id = "other"
    with pytest.raises(OperatorMismatchError, match=r"other .*: it was added; left .*: it was removed"):
        run(bench, renamed).resume("x")


@pytest.mark.parametrize(
    ("wires", "names"),
    [
        ([("a", "x", "y"), ("b", "y", "x")], "cycle.*a.*b|cycle.*b.*a"),
        ([("a", "x", "y"), ("b", "y", "z"), ("c", "z", "x")], "cycle"),
        ([("a", "in", "y"), ("b", "x", "y")], "b and a would both write"),
        ([("a", "in", "y"), ("b", "in", "./y")], "both write"),
        ([("a", "in", "y"), ("a", "y", "z")], "two nodes have the id 'a'"),
        ([], "at least one node"),
    ],
)
def test_topologies_that_cannot_run_are_refused(bench: Bench, wires: list[Any], names: str) -> None:
    """M9, M31: cycles, two writers of one stream, ids that repeat: said when the pipeline is made."""
    before = bench.files()
    nodes = [
        node(bench, name).bind_io(f"jsonl://{i}.jsonl", f"jsonl://{o}.jsonl").set_processor(same)
        for name, i, o in wires
    ]
    with pytest.raises(ConfigError, match=names):
        run(bench, nodes)
    assert bench.files() == before


def test_nodes_that_are_not_ready_are_named(bench: Bench) -> None:
    """M9: a pipeline wires nothing: what a node lacks is said of that node."""
    with pytest.raises(ConfigError, match=r"lonely.*bind_io"):
        run(bench, [UnifiedNode("lonely").set_processor(same)])
    with pytest.raises(ConfigError, match=r"idle.*set_operator"):
        run(bench, [UnifiedNode("idle").bind_io("jsonl://x.jsonl", "jsonl://y.jsonl")]).create("a")


def test_nodes_keep_their_own_settings_in_a_pipeline(bench: Bench) -> None:
    """M9: order, ids, batch and parallel size are each node's own, and in the run state."""
    bench.give(numbered(20))
    JsonlStream(f"jsonl://{bench.input}").seal()
    first = node(bench, "first", parallel_size=3, batch_size=4, ordered=True, id_scheme="numeric")
    first.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.folder}/a.jsonl")
    first.set_operator(lambda item: [item, item])
    second = node(bench, "second", batch_size=7).bind_io(f"jsonl://{bench.folder}/a.jsonl", f"jsonl://{bench.output}")
    second.set_processor(same)
    run(bench, [first, second]).create("x").run()
    assert [row["_i"] for row in lines(bench.folder / "a.jsonl")] == [n * 10_000 + k for n in range(20) for k in (0, 1)]
    entries = {entry["node_id"]: entry for entry in bench.run_state("x")["nodes"]}
    assert entries["first"]["id_scheme"] == "numeric"
    assert entries["first"]["ordered"] is True
    assert (entries["second"]["parallel_size"], entries["second"]["batch_size"]) == (1, 7)
