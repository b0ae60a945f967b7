"""The order of files: a run keeps it, so that an id means the same row for all who go on, do again, or look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import NodeFailedError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.browse.absolute import with_absolute_paths
from llm_datagen.runs.browse.failures import each_failure
from llm_datagen.runs.browse.pages import Browser
from llm_datagen.runs.browse.run_streams import find_stream, streams_of_run
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.shards.trace_whole import trace_whole
from llm_datagen.shards.whole import Whole
from llm_datagen.testing import FakeLLMServer

from ..kit.shards import in_shards, rows_in_shards
from ..kit.support import Bench, Stopping, lines, stored

A_C_B = [(0, 0), (1, 1), (20, 2), (21, 3), (10, 4), (11, 5)]
"""Rows of the files a, c and b, with their ids, where b has come after the run began."""

SORTED = [(0, 0), (1, 1), (10, 2), (11, 3), (20, 4), (21, 5)]


class Marked(Stopping):
    """Passes rows on, with a mark that is its version; the row 11 fails if it is to.

    Args:
        version: the mark.
        fails: whether that row fails.
        at: as `Stopping`.
    """

    def __init__(self, version: str, *, fails: bool = False, at: int | None = None) -> None:
        super().__init__(at)
        self.version = version
        self.fails = fails

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return the row."""
        if self.fails and item["n"] == 11:
            raise ValueError("no 11")
        return {**super().process_item(item, ctx), "by": self.version}


@pytest.fixture
def folder(bench: Bench) -> Path:
    """The folder of the files a and c."""
    folder = bench.folder / "in"
    folder.mkdir()
    put(folder, "a", 0)
    put(folder, "c", 20)
    return folder


def put(folder: Path, name: str, first: int, rows: int = 2) -> None:
    (folder / f"{name}.jsonl").write_text("".join(f'{{"n": {first + n}}}\n' for n in range(rows)))


def pipeline(bench: Bench, *operators: Any, **settings: Any) -> Any:
    return bench.pipeline([*operators], **{"input_uri": f"{bench.folder}/in/", "ordered": True, **settings})


def ids_of(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["n"], row["_i"]) for row in rows]


def findings(bench: Bench, *versions: str) -> list[str]:
    return [text for version in versions for each in verify(bench.run_state(version)) for text in each.findings]


@pytest.mark.parametrize("on_change", ["rerun", "replace"])
@pytest.mark.parametrize("was_resumed", [True, False], ids=["resumed before", "at once"])
def test_what_is_done_again_reads_files_in_the_order_of_the_run(
    bench: Bench, folder: Path, on_change: Any, was_resumed: bool
) -> None:
    pipeline(bench, Marked("1")).create("a").run()
    put(folder, "b", 10)
    if was_resumed:
        pipeline(bench, Marked("1")).resume("a").run()
        assert ids_of(lines(bench.output)) == A_C_B
    notes = pipeline(bench, Marked("2")).diff("a").notes
    assert any("b.jsonl came since the run began, and are read last" in note for note in notes) == (not was_resumed)
    pipeline(bench, Marked("2")).resume("a", on_change=on_change).run()
    assert ids_of(lines(bench.output)) == A_C_B
    assert {row["by"] for row in lines(bench.output)} == {"2"}
    versions = ["a", "a@1"] if on_change == "rerun" else ["a"]
    if on_change == "rerun":
        rows = stored(bench.run_state("a@1")["nodes"][-1]["output_uri"])
        assert ids_of(rows) == (A_C_B if was_resumed else A_C_B[:4])
    if was_resumed:
        assert findings(bench, *versions) == []


def test_a_rerun_that_was_cut_short_goes_on_in_the_same_order(bench: Bench, folder: Path) -> None:
    pipeline(bench, Marked("1")).create("a").run()
    put(folder, "b", 10)
    pipeline(bench, Marked("2", at=0)).resume("a", on_change="rerun").run()
    put(folder, "0", 30)
    pipeline(bench, Marked("2")).resume("a").run()
    assert ids_of(lines(bench.output)) == [*A_C_B, (30, 6), (31, 7)]


def test_a_step_that_was_put_in_front_reads_files_in_the_order_of_the_run(bench: Bench, folder: Path) -> None:
    pipeline(bench, Marked("1")).create("a").run()
    put(folder, "b", 10)
    pipeline(bench, Marked("0"), Marked("1")).resume("a", on_change="rerun").run()
    assert ids_of(lines(bench.output)) == A_C_B


def test_a_replay_that_does_steps_again_reads_files_in_the_order_of_the_run(bench: Bench, folder: Path) -> None:
    put(folder, "a", 10)
    pipeline(bench, Marked("1", fails=True), on_error="dead_letter").create("a").run()
    put(folder, "0", 30)
    pipeline(bench, Marked("2"), on_error="dead_letter").replay("a", on_change="rerun").run()
    assert ids_of(lines(bench.output)) == [(10, 0), (11, 1), (20, 2), (21, 3), (30, 4), (31, 5)]


def test_to_start_afresh_lists_the_files_anew(bench: Bench, folder: Path) -> None:
    pipeline(bench, Marked("1")).create("a").run()
    put(folder, "b", 10)
    pipeline(bench, Marked("1")).create("a", if_exists="overwrite").run()
    assert ids_of(lines(bench.output)) == SORTED


def test_what_is_done_again_reads_files_as_they_are_now_and_says_what_became_of_them(
    bench: Bench, folder: Path
) -> None:
    put(folder, "d", 30)
    pipeline(bench, Marked("1")).create("a").run()
    put(folder, "b", 10)
    (folder / "a.jsonl").unlink()
    put(folder, "c", 20, rows=1)
    says = "a.jsonl is gone, and c.jsonl is not what it was: files are read as they are now"
    assert any(says in note for note in pipeline(bench, Marked("2")).diff("a").notes)
    pipeline(bench, Marked("2")).resume("a", on_change="rerun").run()
    assert ids_of(lines(bench.output)) == [(20, 0), (30, 1), (31, 2), (10, 3), (11, 4)]
    assert any(says in str(line) for line in bench.log_lines())
    assert findings(bench, "a") == []


def test_what_was_added_to_a_file_is_read_when_all_is_done_again(bench: Bench, folder: Path) -> None:
    pipeline(bench, Marked("1")).create("a").run()
    put(folder, "a", 0, rows=3)
    assert not any("has grown" in note for note in pipeline(bench, Marked("2")).diff("a").notes)
    pipeline(bench, Marked("2")).resume("a", on_change="rerun").run()
    assert ids_of(lines(bench.output)) == [(0, 0), (1, 1), (2, 2), (20, 3), (21, 4)]


def test_stored_answers_are_not_paid_for_again(bench: Bench, folder: Path) -> None:
    from llm_datagen.llm import LLMOperator

    with FakeLLMServer(answer="yes") as server:

        def asking(version: str) -> Any:
            operator = LLMOperator(
                "Say {{ n }}",
                model="m",
                base_url=server.base_url,
                cache=str(bench.folder / "answers"),
                cache_by="row",
            )
            step = Stopping()  # whose rows are the same
            step.version = version
            return pipeline(bench, step, operator)

        asking("1").create("a").run()
        put(folder, "b", 10)
        asking("1").resume("a").run()
        assert server.calls == 6
        asking("2").resume("a", on_change="rerun").run()
        assert server.calls == 6


def test_who_looks_up_rows_of_the_input_finds_those_of_the_run(bench: Bench, folder: Path) -> None:
    settings = {"on_error": "dead_letter"}
    pipeline(bench, Marked("1", fails=True), **settings).create("a").run()
    put(folder, "b", 10)
    pipeline(bench, Marked("1", fails=True), **settings).resume("a").run()
    state = bench.run_state("a")
    assert ids_of(lines(bench.output)) == A_C_B[:-1]
    for n, row_id in A_C_B[:-1]:
        assert [step.item["n"] for step in trace(state, row_id)] == [n, n]
    (failure,) = each_failure((None, entry) for entry in state["nodes"])
    assert failure["row_id"] == 5
    assert failure["where"].endswith("b.jsonl, line 2")
    for run_state in (state, with_absolute_paths(state, bench.folder)):
        page = Browser().page(find_stream(streams_of_run(run_state), "input:0"), 0, 10)
        assert [(row.item["n"], row.id) for row in page.rows] == A_C_B
    assert findings(bench, "a") == []


def test_shards_that_are_done_again_read_the_files_of_the_plan(bench: Bench, folder: Path) -> None:
    in_shards(pipeline(bench, Marked("1")), shards=2).create("a").run(progress=False)
    put(folder, "b", 10)
    in_shards(pipeline(bench, Marked("2")), shards=2).resume("a", on_change="replace").run(progress=False)
    rows = rows_in_shards(bench, "a", "node_0")
    assert ids_of(rows) == A_C_B[:4]
    assert {row["by"] for row in rows} == {"2"}
    whole = Whole.find(RunFolder(bench.results, "a"))
    assert whole is not None
    shards = [shard.state for shard in whole.shards]
    page = Browser().page(find_stream(streams_of_run(whole.see().state, shards), "input:0"), 0, 4)
    assert [(row.item["n"], row.id) for row in page.rows] == A_C_B[:4]


def test_a_row_of_shards_is_traced_though_the_file_of_its_shard_is_gone(bench: Bench, folder: Path) -> None:
    in_shards(pipeline(bench, Marked("1")), shards=2).create("a").run(progress=False)
    (folder / "c.jsonl").unlink()
    whole = Whole.find(RunFolder(bench.results, "a"))
    assert whole is not None
    ((_, (of_input, of_output)),) = trace_whole(whole, 3)
    assert (of_input.state, of_input.item) == ("unreadable", {"reason": "c.jsonl is gone"})
    assert (of_output.state, of_output.item["n"]) == ("row", 21)
    ((_, (of_input, _)),) = trace_whole(whole, 1)
    assert (of_input.state, of_input.item["n"]) == ("row", 1)


def test_a_file_that_has_gone_before_its_turn_ends_the_run_by_its_name(bench: Bench, folder: Path) -> None:
    def remove(item: Any) -> Any:
        (folder / "c.jsonl").unlink(missing_ok=True)
        return item

    put(folder, "a", 0, rows=5000)
    with pytest.raises(NodeFailedError, match=r"c\.jsonl is gone since the run listed it; restore it"):
        pipeline(bench, remove, batch_size=1).create("a").run()
