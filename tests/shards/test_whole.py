"""A run in shards has the rows of one run, with their ids, whatever the pipeline is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    ConfigError,
    NodeFailedError,
    Route,
    RunStateError,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.errors import ResumeWarning
from llm_datagen.operators import INodeContext
from llm_datagen.ops import Dedupe, Feedback
from llm_datagen.runs.status import NodeReport
from llm_datagen.shards.pipeline import ShardedPipeline

from ..kit.shards import in_shards, rows_in_shards, shard_states
from ..kit.support import QUICK, Bench, bag, lines, nothing_left, numbered

COUNTS = ("rows_in", "rows_out", "filtered", "skipped", "dead_letters", "failed", "total", "total_is_exact")


def counts(nodes: Sequence[NodeReport]) -> dict[str, tuple[Any, ...]]:
    return {node.node_id: tuple(getattr(node, name) for name in COUNTS) for node in nodes}


def double(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "double": 2 * row["n"]}


def twice_or_never(row: dict[str, Any]) -> Any:
    """Return two rows of every third, none of the one behind it; the seventh of ten raises."""
    if row["n"] % 10 == 7:
        raise ValueError(f"no row {row['n']}")
    return [[{**row, "half": 0}, {**row, "half": 1}], None, row][row["n"] % 3]


@pytest.mark.parametrize("id_scheme", ["path", "text"])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_line_has_the_rows_ids_and_dead_letters_of_one_run(bench: Bench, id_scheme: Any, streaming: bool) -> None:
    """R2, C1: filtered rows, children and dead letters are those of one run; the whole counts them as one does."""
    bench.give(numbered(103))
    settings: dict[str, Any] = {"on_error": "dead_letter", "id_scheme": id_scheme, "streaming": streaming}
    alone = bench.pipeline([double, twice_or_never], ordered=True, **settings).create("one").run()
    expected = lines(bench.output)
    dead = lines(Path(f"{bench.output}.errors.jsonl"))
    assert (len(expected), len(dead)) == (95, 10)
    other = bench.pipeline([double, twice_or_never], ordered=True, **settings)
    with nothing_left():
        merge = "concat" if streaming else "shards"
        pipeline = in_shards(other, merge=merge).create("four", output_uri=f"jsonl://{bench.folder}/four.jsonl")
        report = pipeline.run(progress=False)
    names = ["four.jsonl"] if streaming else [f"four-{number:05}-of-00004.jsonl" for number in range(4)]
    assert [row for name in names for row in lines(bench.folder / name)] == expected
    assert rows_in_shards(bench, "four", "node_1") == expected
    states = shard_states(bench, "four")
    errors = [row for state in states for row in lines(Path(f"{_path(state, 'node_1')}.errors.jsonl"))]
    assert bag(_bare(errors)) == bag(_bare(dead))
    assert counts(report.nodes) == counts(alone.nodes)
    assert report.status == pipeline.status == "completed"
    assert {state["status"] for state in states} == {"completed"}


def _path(run_state: dict[str, Any], node_id: str) -> str:
    uri = next(entry["output_uri"] for entry in run_state["nodes"] if entry["node_id"] == node_id)
    return str(uri).removeprefix("jsonl://")


def _bare(dead: list[dict[str, Any]]) -> list[Any]:
    return [[row["_i"], row["node_id"], row["error"]["text"]] for row in dead]


def children(row: dict[str, Any]) -> Any:
    return [row, row]


def test_numeric_ids_are_those_of_one_run_and_never_meet(bench: Bench) -> None:
    """S4: what one run refuses, as two rows might have one id, is refused over all shards, too."""
    bench.give(numbered(20))
    settings: dict[str, Any] = {"id_scheme": "numeric", "ordered": True}
    bench.pipeline([children], **settings).create("one").run()
    in_shards(bench.pipeline([children], **settings, output_uri=f"jsonl://{bench.folder}/b.jsonl")).create("b").run()
    assert rows_in_shards(bench, "b", "node_0") == lines(bench.output)
    bench.give([{"n": n} for n in range(20_020)])
    mixed = bench.pipeline([some_children], **settings, output_uri=f"jsonl://{bench.folder}/c.jsonl")
    with pytest.raises(NodeFailedError, match="the run failed: IdError: node_0, over all shards: a node keeps ids"):
        in_shards(mixed, shards=2).create("c").run(progress=False)


def some_children(row: dict[str, Any]) -> Any:
    """Return children of row 2, with ids 20000 and 20001, in the first half; in the second one, rows as they are."""
    return [row, row] if row["n"] == 2 else row if row["n"] > 10_100 else None


def _sorted_out(row: dict[str, Any]) -> Route | None:
    return Route(("even", "odd")[row["n"] % 2], row) if row["n"] % 5 else None


def graph(bench: Bench, name: str) -> UnifiedNodePipeline:
    """Return a graph: rows are sorted into two streams; one is worked on; both come together again."""
    files = {key: f"jsonl://{bench.folder}/{name}-{key}.jsonl" for key in ("even", "odd", "seen", "out")}
    sort = UnifiedNode("sort", follow_input=False, writer_config=QUICK)
    sort.bind_io(f"jsonl://{bench.input}", {"even": files["even"], "odd": files["odd"]}).set_operator(_sorted_out)
    seen = UnifiedNode("seen", writer_config=QUICK)
    seen.bind_io(files["odd"], files["seen"]).set_operator(double)
    join = UnifiedNode("join", writer_config=QUICK)
    join.bind_io({"plain": files["even"], "seen": files["seen"]}, files["out"]).set_operator(lambda row: row)
    return UnifiedNodePipeline([sort, seen, join], results_dir=bench.results, log_file=bench.log, streaming=True)


def test_a_graph_has_the_rows_of_one_run_in_each_of_its_streams(bench: Bench) -> None:
    """M31: what is sorted, worked on and merged has the same rows, with the same ids, in every stream."""
    bench.give(numbered(61))
    alone = graph(bench, "one").create("one").run()
    report = in_shards(graph(bench, "four")).create("four").run(progress=False)
    for node_id, name in (("sort.even", "even"), ("sort.odd", "odd"), ("seen", "seen"), ("join", "out")):
        assert bag(rows_in_shards(bench, "four", node_id)) == bag(lines(bench.folder / f"one-{name}.jsonl")), node_id
    assert len(rows_in_shards(bench, "four", "join")) == 48
    found, known = counts(report.nodes), counts(alone.nodes)
    assert {name: each[:6] for name, each in found.items()} == {name: each[:6] for name, each in known.items()}


class Keeping(BaseOperator):
    keeps_state = True

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item


class Ending(BaseOperator):
    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return item

    def finish(self, ctx: INodeContext) -> Any:
        return [{"n": -1}]


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "state": ([double, Keeping()], {}, "node_1: Keeping keeps state"),
    "finish": ([Ending()], {}, r"node_0: Ending has a finish\(\)"),
    "dedupe": ([Dedupe("n")], {}, "node_0: .*so it needs all rows, and a shard has a part of them"),
    "feedback": ([Feedback(k=1), double], {"streaming": True}, r"node_0: .*rows of another node \(Feedback\)"),
    "target": ([double], {"target": 5}, "node_0: target=5 counts the rows of a whole run"),
    "rows": ([double], {"input_uri": None, "input": [{"n": 1}]}, "not rows of the program; write its rows to a file"),
    "stdin": ([double], {"input_uri": "-"}, "not standard input; write its rows to a file first"),
    "stdout": ([double], {"output_uri": "-"}, r"cannot be standard output \(-\): name a file"),
    "follow": ([double], {"follow_input": True}, r"may grow \(follow_input=True\)"),
    "memory": ([double], {"output_uri": "memory://out"}, "lies in the memory of one process"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_split_is_refused_by_name_before_anything_is_written(bench: Bench, case: str) -> None:
    bench.give(numbered(3))
    operators, settings, text = REFUSED[case]
    pipeline = in_shards(bench.pipeline(operators, **settings))
    before = bench.files()
    with pytest.raises(ConfigError, match=text):
        pipeline.create("a")
    assert bench.files() == before


def test_several_inputs_are_refused_by_name(bench: Bench) -> None:
    bench.give(numbered(3))
    node = UnifiedNode("join", follow_input=False).set_operator(double)
    node.bind_io([f"jsonl://{bench.input}", f"jsonl://{bench.folder}/other.jsonl"], f"jsonl://{bench.output}")
    with pytest.raises(ConfigError, match=r"reads in.jsonl and|reads .*in.jsonl and .*other.jsonl: join them"):
        in_shards(UnifiedNodePipeline([node], results_dir=bench.results)).create("a")


def test_a_run_keeps_its_shards_and_its_merge(bench: Bench) -> None:
    """Other values at a resume are told as other settings are, and not used."""
    bench.give(numbered(9))
    in_shards(bench.pipeline([double]), shards=3).create("a").run(progress=False)
    again = in_shards(bench.pipeline([double]), shards=5, merge="concat")
    with pytest.warns(ResumeWarning) as told:
        again.resume("a")
    assert [str(each.message) for each in told] == [
        "shards=5 is not used: run 'a' was made with 3, which stays as it is",
        "merge='concat' is not used: run 'a' was made with 'shards', which stays as it is",
    ]
    assert again.run(progress=False).status == "completed"
    assert len(shard_states(bench, "a")) == 3


def test_a_run_stays_in_shards_or_without(bench: Bench) -> None:
    bench.give(numbered(9))
    in_shards(bench.pipeline([double])).create("a").run(progress=False)
    bench.pipeline([double], output_uri=f"jsonl://{bench.folder}/b.jsonl").create("b").run()
    with pytest.raises(ConfigError, match=r"'a' is in shards: .*ShardedPipeline\(pipeline\).resume\('a'\)"):
        bench.pipeline([double]).resume("a")
    with pytest.raises(ConfigError, match="'b' was not made in shards"):
        in_shards(bench.pipeline([double])).resume("b")


@pytest.mark.parametrize("given", [{"shards": 0}, {"workers": 0}, {"merge": "zip"}, {"executor": "cloud"}])
def test_a_wrong_option_is_refused(bench: Bench, given: dict[str, Any]) -> None:
    name = next(iter(given))
    with pytest.raises(ConfigError, match=name):
        ShardedPipeline(bench.pipeline([double]), **given)
    with pytest.raises(ConfigError, match="pipeline must be"):
        ShardedPipeline("in.yaml")  # type: ignore[arg-type]


def test_fewer_rows_than_shards_and_none_at_all(bench: Bench) -> None:
    """A shard without rows is completed like any other."""
    for count in (2, 0):
        bench.give(numbered(count))
        pipeline: UnifiedPipeline = bench.pipeline([double])
        report = in_shards(pipeline).create("a", if_exists="overwrite").run(progress=False)
        assert (report.status, report.rows_in, report.rows_out) == ("completed", count, count)
        assert [row["_i"] for row in rows_in_shards(bench, "a", "node_0")] == list(range(count))


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_run_whose_folder_was_moved_or_copied_is_refused_and_the_original_goes_on(bench: Bench, how: str) -> None:
    """Resumed, a copy would write into the streams of what it was copied from."""
    bench.give(numbered(20))
    stop = bench.folder / "stop"
    stop.touch()

    def picky(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 12 and stop.exists():
            raise ValueError("not yet")
        return row

    pipeline = in_shards(bench.pipeline([picky]), merge="concat")
    with pytest.raises(NodeFailedError):
        pipeline.create("a").run(progress=False)
    stop.unlink()
    other = bench.folder / "other"
    (shutil.move if how == "moved" else shutil.copytree)(bench.results, other)
    moved = in_shards(bench.pipeline([picky], results_dir=other), merge="concat")
    begun = sorted(other.glob("a/shards/*/runtime.json"))
    with pytest.raises(RunStateError, match=r"run 'a' was moved or copied: its shards lie in .*/other/a/shards, and"):
        moved.resume("a")
    with (
        pytest.raises(RunStateError, match=r"were in .*/results/a/shards; move the run back"),
        moved.shard(3, "a"),
    ):
        pass
    assert sorted(other.glob("a/shards/*/runtime.json")) == begun
    if how == "moved":
        shutil.move(other, bench.results)
    in_shards(bench.pipeline([picky]), merge="concat").resume("a").run(progress=False)
    assert [row["n"] for row in lines(bench.output)] == list(range(20))


def leaves(row: dict[str, Any]) -> dict[str, Any]:
    """Leave the working directory."""
    os.chdir("/")
    return row


@pytest.mark.slow
def test_a_worker_reads_each_shard_from_the_folder_that_it_began_in(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.give(numbered(20))
    monkeypatch.chdir(bench.folder)
    pipeline = bench.pipeline([leaves], input_uri=bench.input.name)
    report = ShardedPipeline(pipeline, shards=3, workers=1).create("a").run(progress=False)
    assert (report.status, report.rows_out) == ("completed", 20)
