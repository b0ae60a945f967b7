"""if_exists="overwrite" deletes what a run has written, and never what the new one is to read (M4)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    JsonlStream,
    MemoryStream,
    NodeFailedError,
    PipelineExistsError,
    UnifiedNode,
    UnifiedNodePipeline,
)
from llm_datagen.errors import StreamBusyError, StreamError

from ..kit.programs import Program
from ..kit.support import Bench, lines, numbered
from .helpers import dead_letters_of, double, poisoned

Spelling = Callable[[Path], str]

SPELLINGS: dict[str, Spelling] = {
    "with dots": lambda path: f"{path.parent}/x/../{path.name}",
    "with a dot": lambda path: f"{path.parent}/./{path.name}",
    "with slashes": lambda path: f"{path.parent}//{path.name}",
    "relative": os.path.relpath,
    "through a link": lambda path: str(_linked(path, path.with_name("link.jsonl"))),
    "through a folder that is a link": lambda path: str(_linked(path.parent, path.parent / "folder") / path.name),
}


def _linked(path: Path, link: Path) -> Path:
    if not link.exists():
        link.symlink_to(path)
    return link


def contents(folder: Path) -> dict[str, bytes]:
    """Return all that lies in a folder, but for what a refused attempt may touch: locks and logs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in {"lock", "platform.log"}
    }


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_the_input_is_never_an_output_however_it_is_spelled(bench: Bench, spelling: Spelling) -> None:
    """M4: reading and writing one file is refused before anything is touched."""
    (bench.folder / "x").mkdir()
    bench.give(numbered(5))
    other = f"jsonl://{spelling(bench.input)}"
    before = contents(bench.folder)
    for operators in ([double], [double, double]):
        with pytest.raises(ConfigError):
            bench.pipeline(operators, output_uri=other).create("a", if_exists="overwrite")
        assert contents(bench.folder) == before


@pytest.mark.sampled(4)
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("which", [0, 1])
def test_what_the_old_run_wrote_is_not_deleted_when_the_new_one_reads_it(
    bench: Bench, spelling: Spelling, which: int
) -> None:
    """M4: neither its output, nor a stream between its nodes."""
    (bench.folder / "x").mkdir()
    bench.give(numbered(5))
    bench.pipeline([double, double]).create("a").run()
    written = [bench.between("a"), bench.output][which]
    (written.parent / "x").mkdir(exist_ok=True)
    source = spelling(written)
    before = contents(bench.folder)
    new = bench.pipeline(
        [double, double],
        input_uri=f"jsonl://{source}",
        output_uri=f"jsonl://{bench.folder / 'new.jsonl'}",
        base_path=bench.folder / "elsewhere",
    )
    with pytest.raises(PipelineExistsError, match="is the input of node_0: it is not deleted; choose another"):
        new.create("a", if_exists="overwrite")
    assert contents(bench.folder) == before
    new.create("b", if_exists="overwrite").run()
    assert len(lines(bench.folder / "new.jsonl")) == 5


def test_dead_letters_are_not_deleted_when_the_new_run_reads_them(bench: Bench) -> None:
    """M4, M24: they belong to the output that is to be overwritten."""
    bench.give(numbered(5))
    bench.pipeline([poisoned({1, 2})], on_error="dead_letter").create("a").run()
    dead_letters = f"{bench.output}.errors.jsonl"
    new = bench.pipeline([lambda dead_letter: dead_letter["input"]], input_uri=f"jsonl://{dead_letters}")
    before = contents(bench.folder)
    for pipeline_id in ("a", "b"):
        with pytest.raises(
            ConfigError, match=f"{dead_letters} would be the dead letters of the output of node_0, and the in"
        ):
            new.create(pipeline_id, if_exists="overwrite")
    assert contents(bench.folder) == before
    assert len(dead_letters_of(bench.output)) == 2


HOLD = """
import sys
from llm_datagen import UnifiedPipeline

def work(row):
    print("running", flush=True)
    sys.stdin.readline()
    return row

folder = sys.argv[1]
UnifiedPipeline(
    [work], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/second.jsonl",
    results_dir=folder + "/others", log_file=None,
).create("other").run()
"""


@pytest.mark.process
def test_an_output_that_another_process_writes_is_not_deleted_nor_anything_else(bench: Bench) -> None:
    """M4, M23: all outputs are looked at before the first is deleted."""
    bench.give(numbered(3))
    second = f"jsonl://{bench.folder / 'second.jsonl'}"
    bench.pipeline([double, double], output_uri=second).create("a").run()
    first = bench.between("a").read_bytes()
    for name in ("second.jsonl", "second.jsonl.done"):
        (bench.folder / name).unlink()
    with Program(["-c", HOLD, bench.folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == "running\n"
            with pytest.raises(StreamBusyError, match=r"second\.jsonl is being written by another writer"):
                bench.pipeline([double, double], output_uri=second).create("a", if_exists="overwrite")
            assert bench.between("a").read_bytes() == first
            assert (bench.folder / "second.jsonl.commits").exists()
        finally:
            other.stdin.write("\n" * 10)
            other.stdin.close()
            assert other.wait(30) == 0
    assert len(lines(bench.folder / "second.jsonl")) == 3
    bench.pipeline([double, double], output_uri=second).create("a", if_exists="overwrite").run()
    assert [row["n"] for row in lines(bench.folder / "second.jsonl")] == [0, 4, 8]


@pytest.mark.parametrize("special", ["/dev/null", "a folder", "a pipe"])
@pytest.mark.parametrize("through_link", [True, False])
def test_what_is_no_regular_file_is_neither_written_nor_deleted(bench: Bench, special: str, through_link: bool) -> None:
    """M4: /dev/null, above all, must survive (this test never names it as an output but through a link)."""
    bench.give(numbered(3))
    target = bench.folder / "target.jsonl"
    if special == "a folder":
        target.mkdir()
        (target / "kept").write_text("kept")
    elif special == "a pipe":
        os.mkfifo(target)
    else:
        target = Path(special)
    output = bench.folder / "out.jsonl" if through_link or special == "/dev/null" else target
    if output != target:
        output.symlink_to(target)
    kind = target.stat().st_mode
    with pytest.raises(StreamError, match=f"{output} is not a regular file, so it is neither written nor deleted"):
        bench.pipeline([double], output_uri=f"jsonl://{output}").create("a", if_exists="overwrite")
    assert target.stat().st_mode == kind
    assert output.is_symlink() == (output != target)
    assert special != "a folder" or (target / "kept").exists()
    node = UnifiedNode("n", log_file=None, follow_input=False).bind_io(f"jsonl://{bench.input}", f"jsonl://{output}")
    with pytest.raises(StreamError, match="is not a regular file"):
        node.set_operator(double).run()
    assert target.stat().st_mode == kind


def test_a_link_is_deleted_and_not_what_it_leads_to(bench: Bench) -> None:
    """M4: the file that it led to is not the run's; the new output is a file of its own."""
    bench.give(numbered(3))
    kept = bench.folder / "kept.jsonl"
    kept.write_text('{"precious": 1}\n')
    bench.output.symlink_to(kept)
    bench.pipeline([double]).create("a", if_exists="overwrite").run()
    assert kept.read_text() == '{"precious": 1}\n'
    assert not bench.output.is_symlink()
    assert len(lines(bench.output)) == 3


def test_overwriting_takes_all_that_belongs_to_the_old_run(bench: Bench) -> None:
    """M4: data, seals, dead letters, of all nodes, also of those that the new run has not."""
    bench.give(numbered(9))
    bench.pipeline([poisoned({1}), poisoned({4}), double], on_error="dead_letter").create("a").run()
    bench.pipeline([double], output_uri=f"jsonl://{bench.folder / 'new.jsonl'}").create("a", if_exists="overwrite")
    left = [name for name in contents(bench.folder) if not name.startswith("results")]
    assert left == ["in.jsonl"]


def test_without_overwrite_nothing_is_deleted(bench: Bench) -> None:
    """M4: neither a run nor an output that lies there, whoever made it."""
    bench.give(numbered(9))
    bench.pipeline([double]).create("a").run()
    before = contents(bench.folder)
    for pipeline_id, say in (("a", "run 'a' is there already"), ("b", "the output of node_0, .*, is there already")):
        with pytest.raises(PipelineExistsError, match=say):
            bench.pipeline([double]).create(pipeline_id)
    assert contents(bench.folder) == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_what_another_run_made_is_not_deleted_by_overwriting_this_one(
    bench: Bench, spelling: Spelling, is_finished: bool
) -> None:
    """M4: `overwrite` is about the run of that id; what was paid for in another one is not its own."""
    (bench.folder / "x").mkdir()
    bench.give(numbered(5))
    paid = bench.pipeline([double if is_finished else poisoned({3})]).create("paid")
    if is_finished:
        paid.run()
    else:
        with pytest.raises(NodeFailedError):
            paid.run()
    before = contents(bench.folder)
    for if_exists, says in (
        ("overwrite", "made by the run 'paid', and .* deletes nothing"),
        ("error", "'paid' made it"),
    ):
        new: Any = bench.pipeline([double, double], output_uri=f"jsonl://{spelling(bench.output)}")
        with pytest.raises(PipelineExistsError, match=says):
            new.create("new", if_exists=if_exists)
        assert {name: data for name, data in contents(bench.folder).items() if name != "link.jsonl"} == before
    bench.pipeline([double]).create("paid", if_exists="overwrite").run()
    assert len(lines(bench.output)) == 5


def test_of_several_runs_that_wrote_an_output_the_last_one_has_it(bench: Bench) -> None:
    """M4: what the others had there, somebody has deleted."""
    bench.give(numbered(5))
    for pipeline_id in ("a", "b"):
        bench.pipeline([double]).create(pipeline_id).run()
        if pipeline_id == "a":
            JsonlStream(f"jsonl://{bench.output}").delete()
    with pytest.raises(PipelineExistsError, match="made by the run 'b'"):
        bench.pipeline([double]).create("a", if_exists="overwrite")
    assert len(lines(bench.output)) == 5
    bench.pipeline([double]).create("b", if_exists="overwrite").run()
    JsonlStream(f"jsonl://{bench.output}").delete()
    bench.pipeline([double]).create("a", if_exists="overwrite").run()


def test_a_run_that_was_created_and_never_run_has_made_nothing(bench: Bench) -> None:
    """M4: its claim on a path keeps nobody out; what lies there without an owner is deleted, as was asked for."""
    bench.give(numbered(5))
    bench.pipeline([double]).create("idle")
    bench.output.write_text("somebody's\n")
    (bench.results / "broken").mkdir()
    (bench.results / "broken" / "runtime.json").write_text("{")
    bench.pipeline([double]).create("a", if_exists="overwrite").run()
    assert len(lines(bench.output)) == 5


def test_an_output_in_memory_is_told_apart_by_its_name(bench: Bench) -> None:
    """M16: the file that is called the same is another place."""
    MemoryStream("memory://same.jsonl", rows=numbered(4))
    try:
        bench.pipeline(
            [double], input_uri="memory://same.jsonl", output_uri=f"jsonl://{bench.folder / 'same.jsonl'}"
        ).create("a", if_exists="overwrite").run()
        assert len(lines(bench.folder / "same.jsonl")) == 4
        with pytest.raises(ConfigError, match="would read and write the same stream"):
            bench.pipeline([double], input_uri="memory://same.jsonl", output_uri="memory://same.jsonl").create("b")
    finally:
        MemoryStream("memory://same.jsonl").delete()


def wired(bench: Bench, *wires: tuple[str, str]) -> UnifiedNodePipeline:
    nodes = [
        UnifiedNode(f"n{number}", follow_input=False)
        .bind_io(f"jsonl://{bench.folder / source}", f"jsonl://{bench.folder / target}")
        .set_operator(double)
        for number, (source, target) in enumerate(wires)
    ]
    return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None)


def test_nodes_that_were_wired_by_hand_keep_their_inputs_too(bench: Bench) -> None:
    """M4, M9: whichever node reads it."""
    bench.give(numbered(4))
    wired(bench, ("in.jsonl", "one.jsonl"), ("in.jsonl", "two.jsonl")).create("a").run()
    before = contents(bench.folder)
    with pytest.raises(PipelineExistsError, match=r"two\.jsonl was written by .* and is the input of n1"):
        wired(bench, ("in.jsonl", "one.jsonl"), ("./two.jsonl", "three.jsonl")).create("a", if_exists="overwrite")
    assert contents(bench.folder) == before
    again: Any = wired(bench, ("in.jsonl", "one.jsonl"), ("one.jsonl", "two.jsonl"))
    with pytest.raises(ConfigError, match="would both write"):
        wired(bench, ("in.jsonl", "one.jsonl"), ("in.jsonl", "./one.jsonl"))
    again.create("a", if_exists="overwrite")
    assert not (bench.folder / "one.jsonl").exists()
