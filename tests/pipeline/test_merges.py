"""A node with several inputs: each row comes once, as soon as it is there, whatever happens (M31, S4)."""

from __future__ import annotations

import contextlib
import json
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    FunctionOperator,
    NodeFailedError,
    Route,
    StreamChangedError,
    UnifiedNode,
    UnifiedNodePipeline,
)
from llm_datagen.errors import ResumeWarning
from llm_datagen.pipeline.fan_in import Merger
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.streams import StreamFactory

from ..kit.support import (
    PATIENCE_SECONDS,
    QUICK,
    Bench,
    bag,
    eventually,
    instrument,
    lines,
    nothing_left,
    numbered,
    stored,
    write_jsonl,
)
from .killing import run_killed_three_times


def same(item: Any) -> Any:
    return item


def node(bench: Bench, name: str, sources: Any, outputs: Any = None, operator: Any = same, **more: Any) -> UnifiedNode:
    """Return a node; streams are named as files of the folder, without ".jsonl"."""

    def uris(names: Any) -> Any:
        if isinstance(names, dict):
            return {key: uris(value) for key, value in names.items()}
        if isinstance(names, list):
            return [uris(name) for name in names]
        return f"csv://{bench.folder}/{names}" if names.endswith(".csv") else f"jsonl://{bench.folder}/{names}.jsonl"

    route = more.pop("route", None)
    made = UnifiedNode(name, writer_config=more.pop("writer_config", QUICK), **more)
    return made.bind_io(uris(sources), uris(outputs or name), route=route).set_operator(operator)


def pipeline(bench: Bench, *nodes: UnifiedNode, **settings: Any) -> UnifiedNodePipeline:
    return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=bench.log, **settings)


def diamond(bench: Bench, *, routed: bool, **settings: Any) -> list[UnifiedNode]:
    """Return split → even, odd → merge; routed, each row goes into one branch, else each into both."""
    outputs = {"to-even": "to_even", "to-odd": "to_odd"}
    rule = {"operator": lambda row: Route("to-odd" if row["n"] % 2 else "to-even", row)} if routed else {}
    return [
        node(bench, "merge", {"even": "even.csv", "odd": "odd"}, operator=lambda row: {**row, "m": 1}, **settings),
        node(bench, "even", "to_even" if routed else "split", "even.csv", lambda row: {**row, "by": "even"}),
        node(bench, "odd", "to_odd" if routed else "split", operator=lambda row: {**row, "by": "odd"}),
        node(bench, "split", "in", outputs if routed else None, follow_input=False, **rule),
    ]


def no_findings(bench: Bench) -> None:
    accounts = verify(bench.run_state("a"))
    assert [account.findings for account in accounts] == [[]] * len(accounts)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("streaming", [True, False])
def test_branches_of_a_router_come_together_under_the_ids_that_they_have(bench: Bench, streaming: bool) -> None:
    """M14, M31: formats may differ; the order of an input is kept; a resume of it all finds nothing to do."""
    bench.give(numbered(60))
    nodes = diamond(bench, routed=True)
    with nothing_left():
        report = pipeline(bench, *nodes, streaming=streaming).create("a").run()
    rows = stored(f"jsonl://{bench.folder}/merge.jsonl")
    assert sorted(row["_i"] for row in rows) == list(range(60))
    assert all(row["by"] == ("odd" if int(row["n"]) % 2 else "even") for row in rows)
    for by in ("even", "odd"):
        ids = [row["_i"] for row in rows if row["by"] == by]
        assert ids == sorted(ids)
    assert [(part.node_id, part.rows_in, part.kept) for part in report.nodes[-2:]] == [
        ("merge.merge", 60, 60),
        ("merge", 60, 60),
    ]
    no_findings(bench)
    found = {(row.where, row.state) for row in trace(bench.run_state("a"), 7) if row.where in {"even", "odd", "merge"}}
    assert found == {("odd", "row"), ("merge", "row")}
    assert pipeline(bench, *nodes).resume("a").run().rows_out == 60


def test_ids_of_several_inputs_are_kept_or_renamed_as_the_user_says(bench: Bench, recwarn: Any) -> None:
    """M14: "keep" only where it is sure that no two are the same; a resume does not take another word."""
    bench.give(numbered(20))
    merge, *before = diamond(bench, routed=True)
    inputs = {"even": f"csv://{bench.folder}/even.csv", "odd": f"jsonl://{bench.folder}/odd.jsonl"}

    def renamed(ids: Any) -> UnifiedNode:
        return UnifiedNode("merge").bind_io(inputs, merge.output.uri, ids=ids).set_operator(merge.operator)

    pipeline(bench, *before, renamed("rename")).create("a").run()
    rows = {row["_i"] for row in stored(merge.output.uri)}
    assert rows == {f"{n}_{'odd' if n % 2 else 'even'}" for n in range(20)}
    kept = pipeline(bench, *before, renamed("keep"))
    assert kept.resume("a").run().rows_out == 20
    (told,) = [str(one.message) for one in recwarn if issubclass(one.category, ResumeWarning)]
    assert "goes on with input_uri='merge://named?" in told
    assert {row["_i"] for row in stored(merge.output.uri)} == rows
    merge, *before = diamond(bench, routed=False)
    with pytest.raises(ConfigError, match=r"node merge: ids=\"keep\": rows of 'even' and 'odd' may have the same id"):
        pipeline(bench, *before, renamed("keep"))
    with pytest.raises(ConfigError, match="ids must be one of 'keep', 'rename', not 'other'"):
        renamed("other")
    with pytest.raises(ConfigError, match="node one: ids='keep' is for several inputs"):
        UnifiedNode("one").bind_io("a.jsonl", "b.jsonl", ids="keep")


@pytest.mark.parametrize(
    ("scheme", "names"), [("path", ["7_even", "7_odd"]), ("numeric", [70000, 70001])], ids=["path", "numeric"]
)
def test_rows_of_branches_that_share_ids_are_named_after_their_input(bench: Bench, scheme: Any, names: Any) -> None:
    """M14: they are traced up into their own branch, and down into both."""
    bench.give(numbered(20))
    pipeline(bench, *diamond(bench, routed=False, id_scheme=scheme)).create("a").run()
    rows = {row["_i"]: row["by"] for row in stored(f"jsonl://{bench.folder}/merge.jsonl")}
    assert len(rows) == 40
    assert [rows[name] for name in names] == ["even", "odd"]
    no_findings(bench)
    up = [(row.where, row.row_id, row.relation) for row in trace(bench.run_state("a"), names[1])]
    assert up == [
        *((where, 7, "ancestor") for where in ("input", "split", "odd")),
        *((where, names[1], "itself") for where in ("merge.merge", "merge")),
    ]
    down = {row.row_id for row in trace(bench.run_state("a"), 7) if row.where == "merge"}
    assert down == set(names)


def test_files_are_merged_also_with_what_nodes_make_of_them(bench: Bench) -> None:
    """M15, M31: CSV and JSON lines, with ids and without, rows that are no objects; files are taken as they are."""
    bench.give(["a", {"n": 1}, {"_i": "x", "n": 2}])
    (bench.folder / "more.csv").write_text("n\n3\n4\n")
    first = node(bench, "first", "in", follow_input=False)
    both = node(bench, "both", ["first", "in", "more.csv"], follow_input=False, operator=lambda row: {"is": row})
    again = node(bench, "again", ["first", "in", "more.csv"], follow_input=False)
    pipeline(bench, both, first, again).create("a").run()
    assert {row["_i"]: row["is"] for row in lines(bench.folder / "both.jsonl")} == {
        **{"0_in0": "a", "1_in0": {"n": 1, "_i": "1_in0"}, "x_in0": {"_i": "x_in0", "n": 2}},
        **{"0_in1": "a", "1_in1": {"n": 1, "_i": "1_in1"}, "x_in1": {"_i": "x_in1", "n": 2}},
        **{"0_in2": {"n": "3", "_i": "0_in2"}, "1_in2": {"n": "4", "_i": "1_in2"}},
    }
    no_findings(bench)
    kin = [(row.where, row.row_id) for row in trace(bench.run_state("a"), "0_in2")]
    assert kin[0] == ("input", 0)
    assert {where for where, row_id in kin[1:] if row_id == "0_in2"} == {"both.merge", "both", "again.merge", "again"}


@pytest.mark.slow
def test_a_slow_input_holds_up_no_other(bench: Bench) -> None:
    """M31, M13: nor does a diamond of which one branch stands still, with small queues, come to a halt."""
    bench.give(numbered(1000))
    go_on = threading.Event()

    def wait(row: Any) -> Any:
        assert go_on.wait(PATIENCE_SECONDS)
        return row

    tiny = {**QUICK, "queue_size": 8, "flush_batch_size": 4}
    nodes = [
        node(bench, "split", "in", follow_input=False, writer_config=tiny),
        node(bench, "slow", "split", operator=wait, writer_config=tiny),
        node(bench, "fast", "split", writer_config=tiny),
        node(bench, "both", {"slow": "slow", "fast": "fast"}, writer_config=tiny),
    ]
    diamond = pipeline(bench, *nodes).create("a")
    diamond.start()
    try:
        out = bench.folder / "both.jsonl"
        eventually(lambda: out.exists() and out.read_bytes().count(b"\n") == 1000)
    finally:
        go_on.set()
    report = diamond.wait(PATIENCE_SECONDS)
    assert report.nodes[-1].rows_out == 2000


def test_what_cannot_be_merged_is_refused_with_the_names(bench: Bench) -> None:
    """M31: before anything is touched."""
    for sources, words in (
        ([], "both has no input"),
        ({"": "x"}, "the name of an input must be letters"),
        ({"7": "x"}, "begin with a letter"),
        ({"a_b": "x"}, "not 'a_b'"),
        (["x", "y", "./x"], r"would read the same stream twice, as in0 and as in2"),
        (["x", "both"], "would read and write the same stream"),
    ):
        with pytest.raises(ConfigError, match=words):
            node(bench, "both", sources)
    with pytest.raises(ConfigError, match="input a must be a stream"):
        UnifiedNode("both").bind_io({"a": 5}, "x.jsonl")  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="its nodes have one input each"):
        bench.pipeline([same], input_uri="merge://named?a=x.jsonl&b=y.jsonl").create("a")
    both = node(bench, "both", ["x", "later"])
    with pytest.raises(ConfigError, match="both has several inputs, so it does not run alone"):
        both.run()
    with pytest.raises(ConfigError, match=r"form a cycle: .*both"):
        pipeline(bench, both, node(bench, "later", "both"))
    other = UnifiedNode("other").set_operator(same).bind_io("in.jsonl", f"jsonl://{bench.folder}/both.jsonl.merged")
    with pytest.raises(ConfigError, match=r"other and both.merge would both write"):
        pipeline(bench, both, other)
    assert not bench.files()


def test_inputs_may_grow_and_may_not_be_edited_where_they_were_read(bench: Bench) -> None:
    """M6, M22: of several, as of one."""
    bench.give(numbered(3))
    (bench.folder / "more.jsonl").write_text('{"n": 100}\n{"n": 101}\n')
    nodes = [node(bench, "both", ["in", "more"], follow_input=False)]
    pipeline(bench, *nodes).create("a").run()
    for name, row in (("more", '{"n": 102}\n'), ("in", '{"n": 3}\n')):
        with (bench.folder / f"{name}.jsonl").open("a") as file:
            file.write(row)
        pipeline(bench, *nodes).resume("a").run()
    rows = stored(f"jsonl://{bench.folder}/both.jsonl")
    assert bag(rows) == bag(
        [*({"n": n, "_i": f"{n}_in0"} for n in range(4)), *({"n": 100 + n, "_i": f"{n}_in1"} for n in range(3))]
    )
    no_findings(bench)
    more = bench.folder / "more.jsonl"
    more.write_text(more.read_text().replace("101", "999") + '{"n": 103}\n')
    with pytest.raises(StreamChangedError, match=r"more.jsonl, bytes .* was edited"):
        pipeline(bench, *nodes).resume("a")
    assert any("more.jsonl" in finding for account in verify(bench.run_state("a")) for finding in account.findings)


def test_an_input_that_has_grown_is_seen_though_another_one_has_shrunk(bench: Bench) -> None:
    """M22: a finished merge does what is new of one input only if the others are what they were."""
    bench.give(numbered(30))
    more = bench.folder / "more.jsonl"
    more.write_bytes(bench.input.read_bytes())
    both = node(bench, "both", ["in", "more"], follow_input=False)
    pipeline(bench, both).create("a").run()
    whole = more.read_bytes()
    bench.give(numbered(40))
    more.write_bytes(whole[:100])
    with pytest.raises(StreamChangedError, match=r"more\.jsonl has only 100 bytes"):
        pipeline(bench, both).resume("a").run()
    more.write_bytes(whole)
    assert pipeline(bench, both).resume("a").run().rows_out == 70
    no_findings(bench)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["path", "numeric"])
def test_what_looks_like_a_name_that_was_given_here_is_another_row(bench: Bench, scheme: Any) -> None:
    """M14: a child under the scheme "numeric", and a row that is named after its input, may meet their equals."""
    if scheme == "numeric":  # row 0 has the children 0 and 1
        bench.give([{"_i": 0, "to": "x"}, {"_i": 1, "to": "y"}])
        made = [node(bench, "made", "x", operator=lambda row: [dict(row), dict(row)], id_scheme=scheme)]
    else:  # x and what is made of it have the same ids: they become 7_x and 7_kept
        bench.give([{"_i": "7", "to": "x"}, {"_i": "7_x", "to": "y"}])
        made = [node(bench, "kept", "x"), node(bench, "made", {"x": "x", "kept": "kept"})]
    nodes = [
        node(bench, "split", "in", {"x": "x", "y": "y"}, follow_input=False, route=lambda row: row["to"]),
        *made,
        node(bench, "all", {"made": "made", "y": "y"}, id_scheme=scheme),
    ]
    pipeline(bench, *nodes).create("a").run()
    ids = [row["_i"] for row in stored(f"jsonl://{bench.folder}/all.jsonl")]
    assert len(set(ids)) == len(ids) == 3
    no_findings(bench)


def test_inputs_that_are_followed_are_awaited(bench: Bench) -> None:
    """M18, M31: for `idle_timeout`; a batch may hold rows of several inputs, and is the same after a resume."""
    bench.give(numbered(5))
    (bench.folder / "in.jsonl.done").touch()
    batches: list[list[str]] = []

    def note(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        batches.append([row["_i"] for row in items])
        return items

    def make() -> UnifiedNodePipeline:
        operator = FunctionOperator(note, batch=True, name="note")
        more = {"batch_size": 4, "ordered": True, "idle_timeout": 0.05}
        return pipeline(bench, node(bench, "both", ["in", "later"], operator=operator, **more))

    with pytest.raises(NodeFailedError, match=r"in.jsonl and .*later.jsonl gave nothing .*later.jsonl.done is missing"):
        make().create("a").run()
    no_findings(bench)
    with StreamFactory.create(f"jsonl://{bench.folder}/later.jsonl").get_writer() as writer:
        writer.write(numbered(4))
    make().resume("a").run()
    assert batches[-2:] == [["4_in0", "0_in1", "1_in1", "2_in1"], ["3_in1"]]
    no_findings(bench)


def test_dead_letters_of_any_input_are_replayed(bench: Bench) -> None:
    """M10, M31: lines that are no rows, named with their file; and rows that fail behind the merge."""
    bench.give([{"n": 1}])
    (bench.folder / "more.jsonl").write_text('{"n": 2}\nnonsense\n{"n": 4}\n')

    def make(*bad: int) -> UnifiedNodePipeline:
        def judge(row: dict[str, Any]) -> dict[str, Any]:
            if row["n"] in bad:
                raise ValueError("on purpose")
            return row

        judge.__qualname__ = "judge"
        both = node(
            bench, "both", ["in", "more"], operator=instrument(judge), follow_input=False, on_error="dead_letter"
        )
        return pipeline(bench, both)

    with pytest.raises(NodeFailedError, match=r"more.jsonl, line 2"):
        pipeline(bench, node(bench, "x", ["in", "more"], follow_input=False)).create("x").run()
    assert make(2).create("a").run().nodes[-1].dead_letters == 1
    (dead_letter,) = lines(bench.folder / "both.jsonl.merged.errors.jsonl")
    assert "more.jsonl, line 2" in dead_letter["error"]["text"]
    assert dead_letter["raw"] == "nonsense" if "raw" in dead_letter else dead_letter["input"]
    assert dead_letter["_i"] == "1_in1"  # the name that it would have had
    no_findings(bench)
    found = [(row.where, row.row_id, row.state) for row in trace(bench.run_state("a"), "1_in1")]
    assert found == [("input", 1, "row"), ("both.merge", "1_in1", "dead letter")]
    more = bench.folder / "more.jsonl"
    more.write_text(more.read_text().replace("nonsense", '{"n": 3}'))
    make().replay("a").run()
    assert {row["_i"]: row["n"] for row in stored(f"jsonl://{bench.folder}/both.jsonl")} == {
        **{"0_in0": 1, "0_in1": 2},
        **{"1_in1": 3, "2_in1": 4},
    }
    no_findings(bench)


KILLED = """
    import random, sys, time
    from llm_datagen import Route, UnifiedNode, UnifiedNodePipeline

    folder, action = sys.argv[1:]

    def uri(name):
        return f"jsonl://{folder}/{name}.jsonl"

    def node(name, sources, outputs, operator):
        settings = {"follow_input": name != "split", "writer_config": {"flush_batch_size": 7}, "parallel_size": 3}
        return UnifiedNode(name, **settings).bind_io(sources, outputs).set_operator(operator)

    def split(row):
        time.sleep(0.001)
        return Route(random.choice(("even", "odd")), row)

    def branch(row):
        time.sleep(random.random() * 0.003)
        return row

    pipeline = UnifiedNodePipeline([
        node("split", uri("in"), {"even": uri("even"), "odd": uri("odd")}, split),
        node("a", uri("even"), uri("a"), branch),
        node("b", uri("odd"), uri("b"), lambda row: [row, {"n": -row["n"]}]),
        node("routed", [uri("a"), uri("b")], uri("routed"), branch),
        node("all", {"file": uri("in"), "split": uri("routed")}, uri("all"), branch),
    ], results_dir=f"{folder}/results", log_file=None)
    pipeline.resume("a") if action == "resume" else pipeline.create("a")
    pipeline.run()
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_diamond_loses_and_repeats_nothing_though_it_is_killed(bench: Bench) -> None:
    """S4, M21: three times; a merge that keeps ids, and, behind it, one of a file and a node."""
    bench.give(numbered(400))
    (bench.folder / "in.jsonl.done").touch()
    script = bench.folder / "job.py"
    script.write_text(textwrap.dedent(KILLED))
    out = Path(f"{bench.folder}/routed.jsonl")
    run_killed_three_times(script, bench.folder, out, seed=5)
    routed = stored(f"jsonl://{bench.folder}/routed.jsonl")
    odd = {row["_i"] for row in stored(f"jsonl://{bench.folder}/odd.jsonl")}
    wanted: list[dict[str, Any]] = []
    for n in range(400):
        wanted += [{"n": n, "_i": f"{n}_0"}, {"n": -n, "_i": f"{n}_1"}] if n in odd else [{"n": n, "_i": n}]
    assert bag(routed) == bag(wanted)
    assert bag(stored(f"jsonl://{bench.folder}/all.jsonl")) == bag(
        [
            *({**row, "_i": f"{row['_i']}_split"} for row in wanted),
            *({"n": n, "_i": f"{n}_file"} for n in range(400)),
        ]
    )
    no_findings(bench)
    assert json.loads((bench.results / "a" / "runtime.json").read_text())["status"] == "completed"


def test_values_that_are_lists_or_null_are_merged_as_they_are(bench: Bench) -> None:
    write_jsonl(bench.folder / "a.jsonl", [[1, 2], None, 5])
    write_jsonl(bench.folder / "b.jsonl", [[], 7])
    merging = node(bench, "both", {"a": "a", "b": "b"}, operator=lambda item: {"got": item}, follow_input=False)
    report = pipeline(bench, merging).create("a").run()
    assert report.filtered == 0
    found = {row["_i"]: row["got"] for row in stored(f"jsonl://{bench.folder}/both.jsonl")}
    assert found == {"0_a": [1, 2], "1_a": None, "2_a": 5, "0_b": [], "1_b": 7}
    no_findings(bench)


@pytest.mark.parametrize("is_done", [True, False], ids=["completed", "cut short"])
def test_a_merge_of_an_older_version_that_split_lists_is_refused_and_can_be_done_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """It made several rows of a list and none of null: nothing else is mixed with these."""
    values = [[1, 2], None, 3, [4], 5]
    for name in ("a", "b"):
        (bench.folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(value)}\n" for value in values))

    def copied_before(self: Merger, item: Any, ctx: Any) -> Any:
        if item == 5 and not is_done:
            raise RuntimeError("cut short")
        return item

    def made() -> UnifiedNodePipeline:
        merged = node(bench, "out", {"a": "a", "b": "b"}, operator=lambda item: {"got": item}, follow_input=False)
        return pipeline(bench, merged)

    with monkeypatch.context() as older, contextlib.suppress(NodeFailedError):
        older.setattr(Merger, "process_item", copied_before)
        made().create("x").run()
    with pytest.raises(StreamChangedError, match="an older version has made several rows of rows that are lists"):
        made().resume("x")
    assert [each.what for each in made().diff("x").nodes] == ["redone", "redone"]
    made().resume("x", on_change="rerun").run()
    assert bag(row["got"] for row in stored(f"jsonl://{bench.folder}/out.jsonl")) == bag([*values, *values])
