"""Runs in shards that are gathered: their outputs are those of one run, in files and in a store, of any shape."""

from __future__ import annotations

import json
import os
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    IdError,
    NodeFailedError,
    PipelineBusyError,
    PipelineExistsError,
    Route,
    RunError,
    RunStateError,
    StreamChangedError,
    StreamExistsError,
    StreamFactory,
    UnifiedNode,
    UnifiedNodePipeline,
)
from llm_datagen.runs import RunFolder
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.shards.gather import gather
from llm_datagen.shards.verify_whole import verify_whole
from llm_datagen.shards.whole import Whole
from llm_datagen.streams.formats.base import lines_of
from llm_datagen.testing import Fault, FaultPlan

from ..kit import programs
from ..kit.s3 import S3Bucket
from ..kit.shards import in_shards, rows_in_shards
from ..kit.support import QUICK, Bench, bag, lines, numbered, stored

pytestmark = pytest.mark.stores("s3", "gs")

ROWS = 53


def fates(row: dict[str, Any]) -> Any:
    """Return two rows of every third, none of the one behind it; the seventh of ten raises."""
    if row["n"] % 10 == 7:
        raise ValueError(f"no row {row['n']}")
    return [[{**row, "half": 0}, {**row, "half": 1}], None, {**row, "half": 2}][row["n"] % 3]


def picky(row: dict[str, Any]) -> Any:
    """Pass rows on; the sixth of ten raises."""
    if row["n"] % 10 == 6:
        raise ValueError(f"not row {row['n']}")
    return row


def findings(bench: Bench, pipeline_id: str, results: Any = None) -> list[str]:
    """Return what is wrong with a run in shards."""
    whole = Whole.find(RunFolder(results or bench.results, pipeline_id))
    assert whole is not None
    found = verify_whole(whole)
    return [*(text for account in found.nodes for text in account.findings), *found.findings]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("out.jsonl", {}),
        ("out.csv", {}),
        ("out.jsonl", {"keep_ids": False}),
        ("out.jsonl", {"id_column": "key", "streaming": True}),
    ],
)
def test_concatenated_outputs_have_the_bytes_the_dead_letters_and_the_account_of_one_run(
    bench: Bench, name: str, settings: dict[str, Any]
) -> None:
    """C1, R2: also of the last of several nodes, whose source rows are numbered through all shards."""
    bench.give(numbered(ROWS))
    outputs = {run: bench.folder / run / name for run in ("one", "four")}
    for run, output in outputs.items():
        line = bench.pipeline([fates, picky], ordered=True, on_error="dead_letter", output_uri=str(output), **settings)
        pipeline = line if run == "one" else in_shards(line, merge="concat")
        assert pipeline.create(run).run(progress=False).status == "completed"
    assert outputs["four"].read_bytes() == outputs["one"].read_bytes()
    seals = [StreamFactory.create(str(output)).read_seal() for output in outputs.values()]
    for key in ("rows", "size", "crc", "filtered", "ids", "complete"):
        assert getattr(seals[1], key) == getattr(seals[0], key), key
    assert [span[:2] for span in seals[1].cover] == [span[:2] for span in seals[0].cover]  # type: ignore[union-attr]
    assert seals[1].account() == seals[0].account()  # type: ignore[union-attr]
    dead = [Path(f"{output}.errors.jsonl") for output in outputs.values()]
    if dead[0].exists():
        shown = [[(row["_i"], row["source"][0], row["error"]["text"]) for row in lines(path)] for path in dead]
        assert shown[0] == shown[1]
    assert findings(bench, "four") == []


@pytest.mark.sampled(1)
@pytest.mark.parametrize("merge", ["concat", "shards"])
def test_an_output_that_is_an_export_is_made_of_all_shards_and_nothing_else(bench: Bench, merge: Any) -> None:
    bench.give(numbered(ROWS))
    settings: dict[str, Any] = {"ordered": True, "on_error": "dead_letter", "export_options": {"rows_per_shard": 7}}
    for run in ("one", "four"):
        line = bench.pipeline([fates], output_uri=f"{bench.folder}/{run}/x-{{shard}}.csv", **settings)
        (line if run == "one" else in_shards(line, merge=merge)).create(run).run(progress=False)
    made = {run: {path.name: path.read_bytes() for path in (bench.folder / run).glob("x-*")} for run in ("one", "four")}
    assert made["four"] == made["one"]
    assert len(made["one"]) > 4
    assert {path.name for path in (bench.folder / "four").iterdir()} == {*made["one"], "_SUCCESS", ".x.csv.manifest"}
    assert findings(bench, "four") == []


def sorted_out(row: dict[str, Any]) -> Route | None:
    return Route(("even", "odd")[row["n"] % 2], row) if row["n"] % 5 else None


def graph(bench: Bench, name: str) -> UnifiedNodePipeline:
    """Return a graph: rows are sorted into two streams; one is an output; one is worked on, which is another."""
    files = {key: f"jsonl://{bench.folder}/{name}/{key}.jsonl" for key in ("even", "odd", "seen")}
    sort = UnifiedNode("sort", follow_input=False, writer_config=QUICK)
    sort.bind_io(f"jsonl://{bench.input}", {"even": files["even"], "odd": files["odd"]}).set_operator(sorted_out)
    seen = UnifiedNode("seen", writer_config=QUICK)
    seen.bind_io(files["odd"], files["seen"]).set_operator(lambda row: {**row, "seen": True})
    return UnifiedNodePipeline([sort, seen], results_dir=bench.results, log_file=bench.log)


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("merge", ["concat", "shards"])
def test_each_output_of_a_graph_is_gathered(bench: Bench, merge: Any) -> None:
    """Those that no node reads; what lies between nodes stays in the shards."""
    bench.give(numbered(ROWS))
    graph(bench, "one").create("one").run(progress=False)
    in_shards(graph(bench, "four"), merge=merge).create("four").run(progress=False)
    for key in ("even", "seen"):
        paths = sorted((bench.folder / "four").glob(f"{key}*.jsonl"))
        assert len(paths) == (1 if merge == "concat" else 4)
        assert [row for path in paths for row in lines(path)] == lines(bench.folder / f"one/{key}.jsonl")
    assert not list((bench.folder / "four").glob("odd*"))
    assert findings(bench, "four") == []


def twice(bench: Bench, name: str) -> UnifiedNodePipeline:
    """Return a graph whose last node reads the input, and what another node has made of it."""
    made, out = (f"jsonl://{bench.folder}/{name}/{key}.jsonl" for key in ("made", "out"))
    make = UnifiedNode("make", follow_input=False, writer_config=QUICK)
    make.bind_io(f"jsonl://{bench.input}", made).set_operator(lambda row: {**row, "seen": True})
    both = UnifiedNode("both", follow_input=False, writer_config=QUICK)
    both.bind_io({"given": f"jsonl://{bench.input}", "made": made}, out).set_operator(lambda row: {**row, "seen": True})
    return UnifiedNodePipeline([make, both], results_dir=bench.results, log_file=bench.log)


@pytest.mark.slow
def test_a_node_reads_the_input_and_what_another_has_made_of_it(bench: Bench) -> None:
    """S2: rows have the ids of one run."""
    bench.give(numbered(ROWS))
    twice(bench, "one").create("one").run(progress=False)
    in_shards(twice(bench, "four"), merge="concat").create("four").run(progress=False)
    assert bag(lines(bench.folder / "four/out.jsonl")) == bag(lines(bench.folder / "one/out.jsonl"))
    assert len(lines(bench.folder / "four/out.jsonl")) == 2 * ROWS
    assert findings(bench, "four") == []


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["concat", "shards"])
def test_a_run_in_a_store_is_gathered_there(s3: S3Bucket, bench: Bench, merge: Any) -> None:
    """Its state, its shards and its outputs are objects; what is wrong with them is seen."""
    bench.give(numbered(ROWS))
    settings: dict[str, Any] = {"ordered": True, "on_error": "dead_letter"}
    bench.pipeline([fates], **settings).create("one").run(progress=False)
    where = {"results_dir": s3.uri("runs"), "base_path": s3.uri("between"), "output_uri": s3.uri("to/x.jsonl")}
    export = s3.uri("e/x-{shard}.jsonl")
    line = bench.pipeline([fates], **settings, **where, also=[export])
    assert in_shards(line, merge=merge, shards=3).create("four").run(progress=False).status == "completed"
    gather(s3.uri("runs"), "four")
    expected = bench.output.read_bytes()
    keys = sorted(key for key in s3.all_keys() if key.startswith("to/x") and key.endswith(".jsonl"))
    keys = [key for key in keys if not key.endswith("errors.jsonl")]
    assert keys == (["to/x.jsonl"] if merge == "concat" else [f"to/x-{k:05}-of-00003.jsonl" for k in range(3)])
    assert b"".join(s3.get(key) or b"" for key in keys) == expected
    assert s3.get("e/x-0.jsonl") == expected
    assert findings(bench, "four", s3.uri("runs")) == []
    if merge == "concat":
        assert [row["_i"] for row in stored(s3.uri("to/x.jsonl"))] == [row["_i"] for row in lines(bench.output)]
    else:
        assert s3.get("to/_SUCCESS") == b""
        manifest = json.loads(s3.get("to/.x-of-00003.jsonl.manifest") or b"")
        assert [part["crc32"] for part in manifest["parts"]] == [zlib.crc32(s3.get(key) or b"") for key in keys]
    s3.put(keys[-1], b"-")
    assert len(findings(bench, "four", s3.uri("runs"))) == 1
    whole = Whole.find(RunFolder(s3.uri("runs"), "four"))
    assert whole is not None
    whole.gathered(dict(whole.saved)).remove()
    assert not [key for key in s3.all_keys() if key.startswith(("to/", "e/"))]


def test_an_output_that_is_there_is_refused_before_anything_is_run(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    (bench.folder / "out-00002-of-00004.jsonl").write_text("{}\n")
    with pytest.raises(StreamExistsError, match=r"out-00002-of-00004.jsonl is there already, and no gather made it"):
        in_shards(bench.pipeline([picky])).create("four")
    assert not (bench.results / "four").exists()


def test_an_output_that_comes_meanwhile_fails_the_run_and_a_gather_ends_it(bench: Bench) -> None:
    """The rows of the shards are kept; nothing is run again."""
    bench.give(numbered(5))
    pipeline = in_shards(bench.pipeline([lambda row: row]), merge="concat").create("four")
    bench.output.write_text("{}\n")
    with pytest.raises(NodeFailedError, match=r"out.jsonl has 3 bytes that no commit log accounts for"):
        pipeline.run(progress=False)
    whole = Whole.find(RunFolder(bench.results, "four"))
    assert whole is not None
    assert whole.see().status == "failed"
    assert "all shards are completed; gather them: llm-datagen gather four" in whole.see().note
    bench.output.unlink()
    gather(bench.results, "four")
    assert [row["_i"] for row in lines(bench.output)] == list(range(5))
    assert findings(bench, "four") == []


@pytest.mark.sampled(2)
@pytest.mark.parametrize("merge", ["concat", "shards"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(operation="rename", path="*/four/runtime.json"),
        Fault(operation="rename", path="*/four/runtime.json", when="after"),
        Fault(operation="write", path="*/four/runtime.json.tmp", action="tear", keep=100),
        Fault(operation="remove", path="*/four/owner.json"),
        Fault(operation="*", path="*/out*", hit=3),
        Fault(operation="*", path="*/x.csv*", hit=4),
    ],
    ids=["before", "after", "torn", "owner", "output", "export"],
)
def test_killed_while_it_completes_the_run_a_gather_is_done_again(bench: Bench, merge: Any, fault: Fault) -> None:
    """Of shards that were each run by itself: the outputs are those of one run, and it is completed once."""
    bench.give(numbered(ROWS))
    settings: dict[str, Any] = {"ordered": True, "on_error": "dead_letter"}
    one = bench.pipeline([fates], **settings, output_uri=f"jsonl://{bench.folder}/one.jsonl").create("one")
    one.run(progress=False)
    in_shards(bench.pipeline([fates], **settings, also=[f"{bench.folder}/x.csv"]), merge=merge).create("four").run(
        progress=False
    )
    folder = RunFolder(bench.results, "four")
    whole = Whole.find(folder)
    assert whole is not None
    whole.gathered(folder.load()).remove()
    assert not list(bench.folder.glob("out*"))
    folder.save({**folder.load(), "status": "pending"})
    job = [Path(__file__).with_name("gather_job.py"), bench.results, "four"]
    env = {**os.environ, **FaultPlan.of(fault).as_env()}
    assert programs.run(job, env=env).returncode == -signal.SIGKILL
    gather(bench.results, "four")
    assert folder.load()["status"] == "completed"
    rows = [row for path in sorted(bench.folder.glob("out*.jsonl")) for row in lines(path) if "error" not in row]
    assert rows == lines(bench.folder / "one.jsonl")
    assert findings(bench, "four") == []


def test_what_looks_at_one_run_refuses_a_run_in_shards(bench: Bench) -> None:
    bench.give(numbered(5))
    in_shards(bench.pipeline([picky])).create("four").run(progress=False)
    for look in (verify, lambda run_state: list(trace(run_state, 1))):
        with pytest.raises(ConfigError, match=r"run 'four' is in shards: llm_datagen\.shards\.(\w+)_whole\.\1_whole "):
            look(bench.run_state("four"))


def test_a_second_gather_at_the_same_time_is_refused_by_name(bench: Bench) -> None:
    bench.give(numbered(5))
    in_shards(bench.pipeline([lambda row: row])).create("four").run(progress=False)
    lock = RunFolder(bench.results, "four").lock
    lock.acquire()
    try:
        with pytest.raises(PipelineBusyError, match=r"run 'four' in .* is being run"):
            gather(bench.results, "four")
    finally:
        lock.release()


def own_ids(bench: Bench) -> UnifiedNodePipeline:
    """Return a node that is wired by hand: rows keep the ids that they bring."""
    node = UnifiedNode("only", follow_input=False, writer_config=QUICK)
    node.bind_io(f"jsonl://{bench.input}", f"jsonl://{bench.output}").set_operator(lambda row: row)
    return UnifiedNodePipeline([node], results_dir=bench.results, log_file=bench.log)


ROWS_WITH_IDS = [{"n": n, "_i": f"r{n % 30}"} for n in range(40)]
"""The ids of the last ten are those of the first ten."""


def test_two_rows_of_the_input_with_one_id_are_refused_though_they_would_be_in_two_shards(bench: Bench) -> None:
    """S4: as in one run, before any row is done."""
    with StreamFactory.create(f"jsonl://{bench.input}").get_writer() as writer:
        writer.write(ROWS_WITH_IDS)
    with pytest.raises(IdError, match="the row has the id 'r0', as row 0 of the stream has"):
        in_shards(own_ids(bench)).create("four").run(progress=False)
    assert not (bench.results / "four/shards/00000").exists()


def test_ids_that_rows_brought_are_compared_over_all_shards(bench: Bench) -> None:
    """Of an input that says that a node has made it, which a run takes at its word."""
    sink = StreamFactory.create(f"jsonl://{bench.input}").sink(source="jsonl://before.jsonl")
    sink.append(lines_of([sink.encoder.encode(row) for row in ROWS_WITH_IDS]), rows=40, ids=("r0", "r9"))
    sink.seal()
    in_shards(own_ids(bench), merge="concat").create("four").run(progress=False)
    found = findings(bench, "four")
    assert len(found) == 10
    assert found[0] == "only: the id 'r0' is in shard 0 and in shard 3"


def test_a_diff_of_a_run_in_shards_is_refused_by_name(bench: Bench) -> None:
    bench.give(numbered(5))
    pipeline = in_shards(bench.pipeline([picky])).create("four")
    pipeline.run(progress=False)
    for each in (pipeline, bench.pipeline([picky])):
        with pytest.raises(ConfigError, match="run 'four' is in shards, of which there is no diff"):
            each.diff("four")


def first(row: dict[str, Any]) -> Any:
    """Return the row as the first version does."""
    return {**row, "by": "first"}


def second(row: dict[str, Any]) -> Any:
    """Return the row as the second version does; it goes by the name of the first."""
    return {**row, "by": "second"}


second.__name__ = second.__qualname__ = "first"
first.version, second.version = "1", "2"  # type: ignore[attr-defined]


def run_shard(bench: Bench, number: int, operator: Any, **options: Any) -> None:
    """Run one of three shards by itself."""
    with in_shards(bench.pipeline([operator]), shards=3, merge="concat").shard(number, "three", **options) as shard:
        shard.run(progress=False)


@pytest.mark.parametrize("runs_meanwhile", [False, True])
def test_rows_of_two_operators_are_not_gathered_unless_the_edit_was_accepted(
    bench: Bench, runs_meanwhile: bool
) -> None:
    """Also when a shard was begun with the first, and ends when the second has replaced it."""
    bench.give(numbered(9))
    if runs_meanwhile:
        pipeline = in_shards(bench.pipeline([first]), shards=3, merge="concat")
        with pipeline.shard(0, "three") as shard:
            run_shard(bench, 1, second, on_change="replace")
            shard.run(progress=False)
    else:
        run_shard(bench, 0, first)
        run_shard(bench, 1, second, on_change="replace")
    run_shard(bench, 2, second)
    with pytest.raises(RunError, match=r"'three' cannot be gathered yet: to be done again: 0; go on with"):
        gather(bench.results, "three")
    run_shard(bench, 0, second)
    gather(bench.results, "three")
    assert [row["by"] for row in lines(bench.output)] == ["second"] * 9
    assert findings(bench, "three") == []


def test_rows_of_an_edit_that_was_accepted_are_gathered(bench: Bench) -> None:
    bench.give(numbered(9))
    run_shard(bench, 0, first)
    run_shard(bench, 1, second, on_change="accept")
    run_shard(bench, 2, second)
    gather(bench.results, "three")
    assert [row["by"] for row in lines(bench.output)] == ["first"] * 3 + ["second"] * 6


def test_a_gathered_file_that_is_gone_is_made_again_and_one_that_was_changed_is_refused(bench: Bench) -> None:
    bench.give(numbered(9))
    in_shards(bench.pipeline([first]), shards=3).create("three").run(progress=False)
    files = sorted(bench.folder.glob("out-*"))
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    gather(bench.results, "three")
    assert [file.read_bytes() for file in files] == before
    files[1].write_bytes(before[1][:-5])
    with pytest.raises(StreamChangedError, match=r"out-00001-of-00003\.jsonl has \d+ bytes, not \d+: it was changed"):
        gather(bench.results, "three")
    assert files[1].read_bytes() == before[1][:-5]


def test_one_gathered_file_that_is_gone_is_made_again_and_one_that_was_changed_is_refused(bench: Bench) -> None:
    bench.give(numbered(9))
    in_shards(bench.pipeline([first]), shards=3, merge="concat").create("three").run(progress=False)
    before = bench.output.read_bytes()
    bench.output.unlink()
    gather(bench.results, "three")
    assert bench.output.read_bytes() == before
    assert findings(bench, "three") == []
    bench.output.write_bytes(before[:-5])
    with pytest.raises(StreamChangedError, match=r"out\.jsonl"):
        gather(bench.results, "three")
    assert bench.output.read_bytes() == before[:-5]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("merge", ["shards", "concat"])
@pytest.mark.parametrize("damaged", ["plan.json", "spec.json", "00001/runtime.json"])
def test_a_run_of_which_a_file_is_damaged_is_started_afresh(bench: Bench, merge: Any, damaged: str) -> None:
    """Nothing of it is left, also when it had more shards than it was made with."""
    bench.give(numbered(9))
    in_shards(bench.pipeline([first]), shards=3, merge=merge).create("three").run(progress=False)
    path = bench.results / "three/shards" / damaged
    path.write_text("{")
    with pytest.raises(RunStateError, match=f"{path.name}"):
        in_shards(bench.pipeline([first]), shards=3, merge=merge).resume("three").run(progress=False)
    again = in_shards(bench.pipeline([second]), shards=2, merge=merge).create("three", if_exists="overwrite")
    assert not list(bench.folder.glob("out*"))
    again.run(progress=False)
    assert findings(bench, "three") == []
    assert [row["by"] for row in rows_in_shards(bench, "three", "node_0")] == ["second"] * 9
    outputs = ["out.jsonl"] if merge == "concat" else [f"out-0000{number}-of-00002.jsonl" for number in range(2)]
    assert sorted(path.name for path in bench.folder.glob("out*.jsonl")) == outputs


def test_an_overwrite_that_is_refused_takes_nothing_away(bench: Bench) -> None:
    """Its first output is that of another run by now."""
    bench.give(numbered(9))
    in_shards(bench.pipeline([first]), shards=3).create("three").run(progress=False)
    bench.pipeline([first]).create("other").run(progress=False)
    before = bench.files()
    with pytest.raises(PipelineExistsError, match=r"out\.jsonl was made by the run 'other'"):
        in_shards(bench.pipeline([first]), shards=3).create("three", if_exists="overwrite")
    assert bench.files() == before
    assert findings(bench, "three") == []


def test_a_plan_or_a_spec_that_is_damaged_or_gone_is_named(bench: Bench) -> None:
    bench.give(numbered(9))
    in_shards(bench.pipeline([first]), shards=3).create("three").run(progress=False)
    plan, spec = (bench.results / "three/shards" / name for name in ("plan.json", "spec.json"))
    for file, gone in ((plan, RunStateError), (spec, None)):
        data = file.read_bytes()
        file.write_bytes(data.replace(b"3", b"4", 1))
        with pytest.raises(RunStateError, match=f"{file.name} .*edited"):
            findings(bench, "three")
        file.unlink()
        if gone:
            with pytest.raises(gone, match=f"{file.name} is gone"):
                findings(bench, "three")
        else:
            assert findings(bench, "three") == [f"{file} is gone, which says what shards do; restore the file"]
        file.write_bytes(data)
    assert findings(bench, "three") == []
