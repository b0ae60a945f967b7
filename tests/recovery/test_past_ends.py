"""Rows that come to a node which has given, at its end, what it had left: refused whole, or done again from there."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    BaseOperator,
    Generate,
    NodeConfig,
    NodeFailedError,
    Status,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
    ops,
)
from llm_datagen.errors import StreamChangedError
from llm_datagen.pipeline import resume_checks
from llm_datagen.runs.verify import verify
from llm_datagen.streams import JsonlStream

from ..kit import programs
from ..kit.support import Bench, lines, write_jsonl
from .edited_steps import CALLS, Step, line
from .past_end_job import grouping

ROWS = 6


def keyed(count: int) -> list[dict[str, Any]]:
    return [{"n": n, "k": "ab"[n % 2]} for n in range(count)]


def groups_of(path: Path) -> dict[str, list[int]]:
    return {row["k"]: sorted(row["n"]) for row in lines(path)}


def files_of(bench: Bench) -> dict[Path, bytes]:
    """Return all files of a run, but those that say who has looked at it."""
    left_out = {"lock", "owner.json", bench.log.name}
    paths = (path for path in bench.folder.rglob("*") if path.is_file() and path.name not in left_out)
    return {path: path.read_bytes() for path in paths}


def findings(bench: Bench, *versions: str) -> list[str]:
    return [text for version in versions for each in verify(bench.run_state(version)) for text in each.findings]


def grown(bench: Bench, fail_at: int | None = None, **settings: Any) -> UnifiedPipeline:
    """Return the pipeline of a completed run "a" of groups, to whose input a row was added since."""
    bench.give(keyed(ROWS))
    grouping(bench, fail_at, **settings).create("a").run()
    bench.give(keyed(ROWS + 1))
    CALLS.clear()
    return grouping(bench)


@pytest.mark.parametrize("on_change", ["refuse", "accept"])
@pytest.mark.parametrize("verb", ["resume", "replay"])
def test_a_refusal_leaves_a_completed_run_as_it_was_and_says_what_to_do(
    bench: Bench, verb: str, on_change: str
) -> None:
    """Also when the node lies far behind: nothing is unsealed, and no dead letter is taken out."""
    bench.give(keyed(ROWS))
    grouping(bench, fail_at=3).create("a").run()
    if verb == "resume":
        bench.give(keyed(ROWS + 1))
    before = files_of(bench)
    with pytest.raises(StreamChangedError, match=r"node_2 \(GroupBy\): .*finish") as caught:
        getattr(grouping(bench), verb)("a", on_change=on_change)
    assert f"pipeline.{verb}('a', on_change='rerun')" in str(caught.value)
    assert files_of(bench) == before
    assert bench.run_state("a")["status"] == "completed"
    bench.give(keyed(ROWS))
    CALLS.clear()
    assert grouping(bench).resume("a").run().status == Status.COMPLETED
    assert not CALLS


@pytest.mark.parametrize("streaming", [True, False])
def test_a_rerun_calls_what_is_new_and_all_from_the_groups_on(bench: Bench, streaming: bool) -> None:
    pipeline = grown(bench, streaming=streaming)
    diff = pipeline.diff("a")
    assert [node.what for node in diff.nodes] == ["kept", "kept", "redone", "redone"]
    assert [node.rows_to_do for node in diff.nodes][:3] == [1, 1, ROWS + 1]
    assert (diff.is_edited, diff.kept_as) == (True, "a@1")
    assert "more rows would come to it" in diff.nodes[2].reasons[0]
    pipeline.resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"A": 1, "B": 1, "C": 2}
    assert groups_of(bench.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5]}
    assert groups_of(bench.folder / "a@1" / "out.jsonl") == {"a": [0, 2, 4], "b": [1, 3, 5]}
    assert findings(bench, "a", "a@1") == []
    assert [node.what for node in pipeline.diff("a").nodes] == ["kept"] * 4


def test_a_replay_with_rerun_calls_the_mended_row_and_all_from_the_groups_on(bench: Bench) -> None:
    bench.give(keyed(ROWS))
    grouping(bench, fail_at=3).create("a").run()
    CALLS.clear()
    pipeline = grouping(bench)
    assert [node.what for node in pipeline.diff("a", replay=True).nodes] == ["kept", "kept", "redone", "redone"]
    assert [node.what for node in pipeline.diff("a").nodes] == ["kept"] * 4
    pipeline.replay("a", on_change="rerun").run()
    assert dict(CALLS) == {"B": 1, "C": 2}
    assert groups_of(bench.output) == {"a": [0, 2, 4], "b": [1, 3, 5]}
    assert findings(bench, "a", "a@1") == []


def test_replace_does_the_same_and_keeps_no_version(bench: Bench) -> None:
    grown(bench).create("a", if_exists="resume", on_change="replace").run()
    assert dict(CALLS) == {"A": 1, "B": 1, "C": 2}
    assert not list(bench.folder.rglob("a@1"))


def test_a_new_file_of_a_pattern_counts(bench: Bench) -> None:
    def pipeline() -> UnifiedPipeline:
        steps = [Step("A"), Step("B"), ops.GroupBy(by="k", collect=["n"])]
        return line(bench, steps, input_uri=f"jsonl://{bench.folder}/in/*.jsonl")

    (bench.folder / "in").mkdir()
    write_jsonl(bench.folder / "in" / "b.jsonl", keyed(4))
    pipeline().create("a").run()
    write_jsonl(bench.folder / "in" / "a.jsonl", [{"n": 8, "k": "a"}])
    before = files_of(bench)
    with pytest.raises(StreamChangedError, match="node_2"):
        pipeline().resume("a")
    assert files_of(bench) == before
    CALLS.clear()
    pipeline().resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"A": 1, "B": 1}
    assert groups_of(bench.output) == {"a": [0, 2, 8], "b": [1, 3]}


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_larger_n_of_a_generated_input_counts(bench: Bench, is_edited: bool) -> None:
    def pipeline(n: int, *behind: Step) -> UnifiedPipeline:
        steps = [Step("A"), ops.GroupBy(by="k", collect=["n"]), *behind]
        generated = Generate({"n": [*range(100)], "k": ["a"]}, seed=7, n=n)
        return line(bench, steps, input_uri=None, input=generated)

    pipeline(4).create("a").run()
    before = files_of(bench)
    with pytest.raises(StreamChangedError, match="node_1"):
        pipeline(6).resume("a")
    assert files_of(bench) == before
    CALLS.clear()
    pipeline(6, *([Step("C")] if is_edited else [])).resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"A": 2, **({"C": 1} if is_edited else {})}
    assert len(groups_of(bench.output)["a"]) == 6
    assert findings(bench, "a", "a@1") == []


def test_blank_lines_bring_no_row_and_nothing_is_done_again(bench: Bench) -> None:
    grown(bench)
    bench.give(keyed(ROWS))
    with bench.input.open("a") as file:
        file.write("\n\n")
    assert grouping(bench).resume("a").run().status == Status.COMPLETED
    assert not CALLS
    assert findings(bench, "a") == []


Leave = Callable[[Bench, pytest.MonkeyPatch], None]


def _left_by_an_append(bench: Bench, patch: pytest.MonkeyPatch) -> None:
    grown(bench, fail_at=3).resume("a")


def _left_by_a_replay(bench: Bench, patch: pytest.MonkeyPatch) -> None:
    grown(bench, fail_at=3).replay("a")


def _left_by_a_replay_that_failed_on_the_way(bench: Bench, patch: pytest.MonkeyPatch) -> None:
    pipeline = grown(bench, fail_at=3).replay("a")
    with pytest.raises(NodeFailedError, match=r"has more rows than when it ended.*on_change='rerun'"):
        pipeline.run()


LEFT = {"append": _left_by_an_append, "replay": _left_by_a_replay, "failed": _left_by_a_replay_that_failed_on_the_way}


@pytest.mark.parametrize("leave", LEFT.values(), ids=LEFT)
def test_a_run_that_an_earlier_build_left_half_way_goes_on(bench: Bench, leave: Leave) -> None:
    """It unsealed what lies before, and took dead letters out, and refused then."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_checks, "check_ends", lambda *_, **__: None)
        leave(bench, patch)
    for verb in ("resume", "replay"):
        with pytest.raises(StreamChangedError, match="on_change='rerun'"):
            getattr(grouping(bench), verb)("a")
    assert [node.what for node in grouping(bench).diff("a").nodes] == ["kept", "kept", "redone", "redone"]
    grouping(bench).replay("a", on_change="rerun").run()
    assert (CALLS["A"], CALLS["B"], CALLS["C"]) == (1, 2, 2)
    assert groups_of(bench.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5]}
    assert findings(bench, "a", "a@1") == []


def test_such_a_run_is_completed_when_the_rows_are_taken_away_and_pays_nothing(bench: Bench) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_checks, "check_ends", lambda *_, **__: None)
        _left_by_an_append(bench, patch)
    bench.give(keyed(ROWS))
    report = grouping(bench).resume("a").run()
    assert report.status == Status.COMPLETED
    assert not CALLS
    assert groups_of(bench.output) == {"a": [0, 2, 4], "b": [1, 5]}
    assert findings(bench, "a") == []


class Gather(BaseOperator):
    """Gives at its end what it was given; fails of a row as long as it is told to."""

    keeps_state = True
    version = "1"
    fails = False

    def process_item(self, item: Any, ctx: Any) -> Any:
        if self.fails and item["n"] == 3:
            raise ValueError("bad")
        ctx.state["all"] = [*ctx.state.get("all", []), item["n"]]

    def finish(self, ctx: Any) -> Iterator[Any]:
        yield {"all": ctx.state["all"]}


def test_dead_letters_of_such_a_node_itself_are_replayed_by_a_rerun(bench: Bench) -> None:
    bench.give(keyed(ROWS))
    failing = Gather()
    failing.fails = True
    line(bench, [Step("A"), failing], on_error="dead_letter").create("a").run()
    CALLS.clear()
    with pytest.raises(StreamChangedError, match="node_1"):
        line(bench, [Step("A"), Gather()]).replay("a")
    line(bench, [Step("A"), Gather()]).replay("a", on_change="rerun").run()
    assert lines(bench.output) == [{"all": [*range(ROWS)], "_i": "end_0"}]
    assert not CALLS


def test_a_step_before_that_keeps_state_knows_what_it_knew_and_so_does_the_version(bench: Bench) -> None:
    def pipeline() -> UnifiedPipeline:
        return line(bench, [Step("A"), ops.Dedupe(by="n"), ops.GroupBy(by="k", collect=["n"])])

    def state_of(version: str) -> bytes:
        return (bench.folder / "between" / version / "node_1.jsonl.state").read_bytes()

    bench.give(keyed(ROWS))
    pipeline().create("a").run()
    before = state_of("a")
    bench.give([*keyed(ROWS), *keyed(ROWS + 1)])
    pipeline().resume("a", on_change="rerun").run()
    assert groups_of(bench.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5]}
    assert state_of("a@1") == before != state_of("a")
    assert findings(bench, "a", "a@1") == []


def test_the_other_branch_of_a_graph_keeps_its_rows(bench: Bench) -> None:
    def graph() -> UnifiedNodePipeline:
        def uri(name: str) -> str:
            return f"jsonl://{bench.folder / name}.jsonl"

        sides = {name: uri(name) for name in ("right", "left")}
        head = UnifiedNode("head", follow_input=False).bind_io(
            uri("in"), sides, route=lambda row: [*sides][row["n"] % 2]
        )
        nodes = [
            head.set_operator(Step("A")),
            UnifiedNode("groups").bind_io(uri("left"), uri("groups")).set_operator(ops.GroupBy(by="k", collect=["n"])),
            UnifiedNode("behind").bind_io(uri("groups"), uri("behind")).set_operator(Step("C")),
            UnifiedNode("plain").bind_io(uri("right"), uri("plain")).set_operator(Step("B")),
        ]
        return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=bench.log)

    bench.give(keyed(ROWS))
    graph().create("a").run()
    bench.give(keyed(ROWS + 2))
    before = files_of(bench)
    with pytest.raises(StreamChangedError, match="groups"):
        graph().resume("a")
    assert files_of(bench) == before
    CALLS.clear()
    assert {node.node_id for node in graph().diff("a").nodes if node.what == "redone"} == {"groups", "behind"}
    graph().resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"A": 2, "B": 1, "C": 1}
    assert groups_of(bench.folder / "behind.jsonl") == {"b": [1, 3, 5, 7]}
    assert len(lines(bench.folder / "plain.jsonl")) == 4
    assert findings(bench, "a") == []


def test_a_target_may_be_raised_when_what_is_behind_it_is_done_again(bench: Bench) -> None:
    def pipeline(target: int) -> UnifiedPipeline:
        steps = [Step("A"), Step("B"), ops.GroupBy(by="k", collect=["n"])]
        return line(bench, steps, node_configs=[None, NodeConfig(target=target), None])

    bench.give(keyed(20))
    pipeline(4).create("a").run()
    with pytest.raises(StreamChangedError, match="node_2"):
        pipeline(4).resume("a", target={"node_1": 8})
    assert bench.run_state("a")["status"] == "completed"
    pipeline(4).resume("a", target={"node_1": 8}, on_change="rerun").run()
    assert groups_of(bench.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5, 7]}
    assert findings(bench, "a", "a@1") == []


def test_rows_that_nobody_needs_refuse_nothing(bench: Bench) -> None:
    """A target behind the groups is met: rows that are added are not done."""

    def pipeline() -> UnifiedPipeline:
        return line(bench, [Step("A"), ops.GroupBy(by="k", collect=["n"]), Step("C")], target=1)

    bench.give(keyed(ROWS))
    pipeline().create("a").run()
    bench.give(keyed(ROWS + 2))
    CALLS.clear()
    assert pipeline().resume("a").run().status == Status.COMPLETED
    assert not CALLS


def test_operators_that_the_run_state_makes_are_enough(bench: Bench) -> None:
    def keeping() -> list[Any]:
        return [ops.Keep("n >= 0"), ops.Keep("n >= 0"), ops.GroupBy(by="k", collect=["n"])]

    bench.give(keyed(ROWS))
    line(bench, keeping()).create("a").run()
    bench.give(keyed(ROWS + 1))
    UnifiedPipeline(results_dir=bench.results, log_file=None).resume("a", on_change="rerun").run()
    assert groups_of(bench.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5]}


def test_an_edit_and_rows_that_come_to_another_branch_go_together(bench: Bench) -> None:
    """The edit lies behind the groups: they are found all the same."""
    grown(bench)
    edited = line(bench, [Step("A"), Step("B"), ops.GroupBy(by="k", collect=["n"]), Step("C", "c"), Step("D")])
    edited.resume("a", on_change="rerun").run()
    assert dict(CALLS) == {"A": 1, "B": 1, "C": 2, "D": 2}
    assert groups_of(bench.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5]}
    assert findings(bench, "a", "a@1") == []


def test_a_node_by_itself_refuses_before_its_seal_is_off(bench: Bench) -> None:
    def node() -> UnifiedNode:
        return UnifiedNode("a", follow_input=False, log_file=None).bind_io(
            f"jsonl://{bench.input}", f"jsonl://{bench.output}"
        )

    bench.give(keyed(ROWS))
    node().set_operator(Gather()).run()
    bench.give(keyed(ROWS + 1))
    with pytest.raises(StreamChangedError, match="Take the rows away"):
        node().set_operator(Gather()).run()
    assert JsonlStream(str(bench.output)).is_sealed()
    bench.give(keyed(ROWS))
    node().set_operator(Gather()).run()
    assert lines(bench.output) == [{"all": [*range(ROWS)], "_i": "end_0"}]


@pytest.mark.slow
@pytest.mark.process
def test_a_kill_at_any_step_of_it_loses_nothing_and_repeats_nothing(bench: Bench) -> None:
    """SIGKILL before every 23rd of the disk's steps, from the first to the last; the same call finishes it."""
    killed = 0
    for at in itertools.count(0, 23):
        folder = Bench(bench.folder / str(at))
        folder.folder.mkdir()
        grown(folder, fail_at=3)
        command = ["-m", f"{__package__}.past_end_job", folder.folder, at]
        status = programs.run(command, cwd=Path(__file__).parents[2]).returncode
        assert status in (0, -signal.SIGKILL)
        grouping(folder).replay("a", on_change="rerun").run()
        assert groups_of(folder.output) == {"a": [0, 2, 4, 6], "b": [1, 3, 5]}, at
        assert groups_of(folder.folder / "a@1" / "out.jsonl") == {"a": [0, 2, 4], "b": [1, 5]}, at
        assert len(lines(folder.folder / "between" / "a" / "node_1.jsonl")) == ROWS + 1, at
        assert sorted(path.name for path in folder.results.iterdir())[:2] == ["a", "a@1"], at
        assert findings(folder, "a", "a@1") == [], at
        if status == 0:
            break
        killed += 1
    assert killed > 5
