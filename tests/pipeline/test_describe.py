"""describe(): the topology as a drawing (M31)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_datagen import ConfigError, FunctionOperator, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.operators.references import parallel_size_of
from llm_datagen.ops import Dedupe, Explode, Select
from llm_datagen.runs.diagram import draw

from ..kit.support import Bench, numbered


def same(item: object) -> object:
    return item


@pytest.mark.integration
def test_a_line_is_drawn_before_and_after_create(bench: Bench) -> None:
    """Each stream once; nothing is opened, made or changed."""
    operators = [FunctionOperator(same, name="clean"), FunctionOperator(same, name="ask")]
    pipeline = bench.pipeline(operators, parallel_size=3)
    wide = [None, {"batch_size": 8}]
    drawn = [
        "one node after the other",
        f"jsonl://{bench.input}",
        "↓ node_0: clean (parallel_size=3, batch_size=1)",
        f"jsonl://{bench.between('PIPELINE_ID')}",
        "↓ node_1: ask (parallel_size=3, batch_size=8)",
        f"jsonl://{bench.output}",
    ]
    assert pipeline.describe(node_configs=wide).splitlines() == drawn
    assert "batch_size=8" not in pipeline.describe()
    assert not bench.files()
    with pytest.raises(ConfigError, match="format"):
        pipeline.describe("dot")  # type: ignore[arg-type]

    bench.give(numbered(1))
    pipeline.create("a", node_configs=wide)
    files = bench.files()
    drawn[3] = f"jsonl://{bench.between('a')}"
    assert pipeline.describe().splitlines() == drawn
    assert bench.files() == files
    pipeline.run()
    assert pipeline.describe().splitlines() == drawn


def wired(folder: Path, *joints: str) -> UnifiedNodePipeline:
    """Return a pipeline of nodes, each given as "source name" and writing a stream of its own name."""
    nodes = []
    for joint in joints:
        source, name = joint.split(" ", 1)
        node = UnifiedNode(name).bind_io(f"jsonl://{folder}/{source}.jsonl", f"jsonl://{folder}/./{name}.jsonl")
        nodes.append(node.set_operator(FunctionOperator(same, name=f"do {name}")))
    return UnifiedNodePipeline(nodes, results_dir=folder / "results", log_file=None)


def test_a_stream_that_several_nodes_read_is_drawn_once(tmp_path: Path) -> None:
    """Also when its path is spelled in two ways; a second input begins a drawing of its own."""
    pipeline = wired(tmp_path, "in a", "a b", "a c", "b d", "b e", "other x")
    text = pipeline.describe().replace(f"jsonl://{tmp_path}/", "").replace("./", "")
    assert re.sub(r": do . \(.*\)", "", text).splitlines() == [
        "streaming: all nodes at once",
        *("in.jsonl", "↓ a", "a.jsonl"),
        *("├─ b", "│  b.jsonl", "│  ├─ d", "│  │  d.jsonl", "│  └─ e", "│     e.jsonl"),
        *("└─ c", "   c.jsonl"),
        *("other.jsonl", "↓ x", "x.jsonl"),
    ]
    mermaid = pipeline.describe("mermaid").splitlines()
    assert mermaid[0] == "flowchart TD"
    streams = [line for line in mermaid if "[(" in line]
    assert len(streams) == 8
    (split,) = [line.split("[")[0].strip() for line in streams if line.endswith('/a.jsonl")]')]
    arrows = [line.split(" --> ") for line in mermaid if "-->" in line]
    assert sum(source.strip() == split for source, _, _ in arrows) == 2
    assert [output for _, _, output in arrows].count(split) == 1
    assert len({node for _, node, _ in arrows}) == len(arrows) == 6


def test_a_node_with_several_inputs_is_drawn_below_the_last_of_them(tmp_path: Path) -> None:
    """M31: each stream and each node once; its inputs have their names."""
    nodes = [
        UnifiedNode(name).bind_io(source, f"{name}.jsonl").set_operator(FunctionOperator(same, name="do"))
        for name, source in (
            ("a", "in.jsonl"),
            ("b", "in.jsonl"),
            ("m", {"x": "a.jsonl", "y": "b.jsonl", "z": "o.csv"}),
        )
    ]
    pipeline = UnifiedNodePipeline(nodes, results_dir=tmp_path / "results", log_file=None)
    text = re.sub(r" \(parallel_size=1, batch_size=1\)", "", pipeline.describe())
    assert text.splitlines()[1:] == [
        *("in.jsonl", "├─ a: do", "│  a.jsonl", "│  ↓ m.merge [x], below"),
        *("└─ b: do", "   b.jsonl", "   ↓ m.merge [y], below"),
        *("o.csv", "↓ m.merge [z]: merge(x, y, z)", "jsonl://m.jsonl.merged", "↓ m: do", "m.jsonl"),
    ]
    mermaid = pipeline.describe("mermaid")
    labels = re.findall(r'(stream\d)\[\("(.*)"\)\]', mermaid)
    assert len(labels) == len(dict(labels)) == 6
    (merge,) = re.findall(r'(node\d)\["m.merge: ', mermaid)
    named = {uri: stream for stream, uri in labels}
    for name, uri in (("x", "a.jsonl"), ("y", "b.jsonl"), ("z", "o.csv")):
        assert f'{named[uri]} -- "{name}" --> {merge}' in mermaid


@pytest.mark.parametrize("odd", ['a"]; b --> c', "x\ny\x1b[31m", "<b>#35;&amp;`%%{init}", "style:x#1;", "_é_ **中**"])
def test_odd_characters_neither_break_a_line_nor_end_a_label(odd: str) -> None:
    """A label can be read back as the text it stands for."""
    operator = FunctionOperator(same, name=odd)
    pipeline = UnifiedPipeline([operator], f"jsonl://in {odd}.jsonl", "jsonl://out.jsonl")
    visible = odd.replace("\n", "\\n").replace("\x1b", "\\x1b")
    assert pipeline.describe().splitlines()[1:3] == [
        f"jsonl://in {visible}.jsonl",
        f"↓ node_0: {visible} (parallel_size=1, batch_size=1)",
    ]
    lines = pipeline.describe("mermaid").splitlines()
    assert len(lines) == 5
    labels = [found[1] for line in lines if (found := re.fullmatch(r'    \w+\[\(?"([^"]*)"\)?\]', line))]
    assert len(labels) == 3
    assert not re.search(r"style|[`%{}&]|<(?!br/>)", "".join(labels))
    read = [re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label) for label in labels]
    assert read[0] == f"jsonl://in {visible}.jsonl"
    assert read[2] == f"node_0: {visible}<br/>parallel_size=1, batch_size=1"


def test_exports_are_drawn_at_the_stream_that_they_are_made_of(bench: Bench) -> None:
    """Before `create()` and after it; in Mermaid, too."""
    target, other = bench.folder / "out.parquet", bench.folder / "out-{shard:05}.jsonl"
    pipeline = bench.pipeline([FunctionOperator(same, name="ask")], output_uri=str(target), also=[str(other)])
    bench.give(numbered(1))
    for run in ("PIPELINE_ID", "a"):
        assert pipeline.describe().splitlines()[2:] == [
            "↓ node_0: ask (parallel_size=1, batch_size=1)",
            f"jsonl://{bench.folder}/between/{run}/output.jsonl",
            f"├─ export, at the end: {target} (parquet)",
            f"└─ export, at the end: {other} (jsonl)",
        ]
        mermaid = pipeline.describe("mermaid").splitlines()
        assert mermaid[-2].startswith('    stream1 -- "export: parquet" --> export0[("/')
        assert mermaid[-1].startswith('    stream1 -- "export: jsonl" --> export1[("/')
        assert mermaid[-2].endswith('/out.parquet")]')
        assert mermaid[-1].endswith('/out#45;#123;shard:05#125;#46;jsonl")]')
        if run != "a":
            pipeline.create("a")


def test_one_export_is_drawn_below_its_stream(bench: Bench) -> None:
    pipeline = bench.pipeline([FunctionOperator(same)], also=[str(bench.folder / "out.parquet")], keep_ids=False)
    bench.give(numbered(1))
    drawn = pipeline.describe().splitlines()
    assert drawn[4] == f"├─ export, at the end: {bench.folder}/out.parquet (parquet)"
    assert drawn[5].startswith("└─ export: export (")  # which takes the ids out


@pytest.mark.integration
def test_of_an_operator_that_keeps_state_the_parallel_size_that_is_used_is_shown(bench: Bench) -> None:
    """It is called for one row after the other; also when an edit on a resume makes it one, or makes it none."""
    bench.give(numbered(3))
    pipeline = bench.pipeline([Dedupe(), Explode("n")], parallel_size=8, on_error="skip")
    drawn = [
        "↓ node_0: Dedupe (parallel_size=1 as it keeps state, batch_size=1)",
        "↓ node_1: Explode (parallel_size=8, batch_size=1)",
    ]
    assert pipeline.describe().splitlines()[2::2] == drawn
    pipeline.create("a").run(progress=False)
    assert draw(bench.run_state("a")).splitlines()[2::2] == drawn
    assert [parallel_size_of(entry) for entry in bench.run_state("a")["nodes"]] == [1, 8]
    assert [entry["parallel_size"] for entry in bench.run_state("a")["nodes"]] == [8, 8]  # for what comes after an edit
    bench.pipeline([Select("n"), Dedupe()]).resume("a", on_change="rerun").run(progress=False)
    assert [parallel_size_of(entry) for entry in bench.run_state("a")["nodes"]] == [8, 1]
