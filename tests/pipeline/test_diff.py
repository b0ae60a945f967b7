"""`pipeline.diff(id)`: what a resume would keep, do again, and cost. Whatever it says, the resume does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import (
    ConfigError,
    NodeFailedError,
    PipelineBusyError,
    PipelineNotFoundError,
    RunStateError,
    StreamCorruptError,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.llm import LLMOperator, Prices
from llm_datagen.pipeline.diff_report import RunDiff, Use
from llm_datagen.runs import RunFolder
from llm_datagen.testing import FakeLLMServer

from ..kit.support import Bench, lines, numbered
from ..recovery.edited_steps import CALLS, Step, line, steps

ROWS = 12


def told(diff: RunDiff) -> list[tuple[str, str, int, int | None]]:
    return [(node.node_id, node.what, node.rows_kept, node.rows_to_do) for node in diff.nodes]


def files(bench: Bench) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in bench.folder.rglob("*") if path.is_file() and path.name != "lock"}


def done(bench: Bench, pipeline: UnifiedPipeline, verb: str = "resume") -> list[int]:
    """Do what a diff has said, and return the calls of each step."""
    CALLS.clear()
    getattr(pipeline, verb)("a", on_change="rerun").run()
    return [CALLS[name] for name in sorted(CALLS)]


@pytest.fixture
def ended(bench: Bench) -> Bench:
    """A run "a" of three steps that is completed."""
    bench.give(numbered(ROWS))
    line(bench, steps("ABC")).create("a").run()
    return bench


def test_an_edited_step_and_what_follows_are_done_again_and_nothing_was_changed_to_say_so(ended: Bench) -> None:
    before = files(ended)
    CALLS.clear()
    diff = line(ended, steps("AbC")).diff("a")
    assert files(ended) == before
    assert not CALLS
    assert told(diff) == [("node_0", "kept", 12, 0), ("node_1", "redone", 0, 12), ("node_2", "redone", 0, 12)]
    assert [node.reasons for node in diff.nodes] == [(), ("attribute mark",), ("what it reads is done again",)]
    assert (diff.version, diff.kept_as, diff.is_edited) == (1, "a@1", True)
    assert [node.is_estimate for node in diff.nodes] == [False, False, True]
    assert diff.use == Use()
    assert done(ended, line(ended, steps("AbC"))) == [12, 12]
    again = line(ended, steps("AbC")).diff("a@2")
    assert told(again) == [("node_0", "kept", 12, 0), ("node_1", "kept", 12, 0), ("node_2", "kept", 12, 0)]
    assert (again.version, again.kept_as, again.is_edited) == (2, "", False)


def test_the_old_value_and_the_new_one_are_told(bench: Bench) -> None:
    bench.give(numbered(ROWS))

    def limited(limit: int) -> Step:
        step = Step("A")
        step.limit = limit  # type: ignore[attr-defined]
        return step

    line(bench, [limited(3)]).create("a").run()
    assert line(bench, [limited(4)]).diff("a").nodes[0].reasons == ("attribute limit 3 → 4",)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("AC", [("kept", 12, 0), ("redone", 0, 12), ("removed", 0, 0)]),
        ("AB", [("kept", 12, 0), ("kept", 12, 0), ("removed", 0, 0)]),
        ("ABCD", [("kept", 12, 0), ("kept", 12, 0), ("kept", 12, 0), ("new", 0, 12)]),
        ("AXBC", [("kept", 12, 0), ("redone", 0, 12), ("redone", 0, 12), ("new", 0, 12)]),
        ("ABC", [("kept", 12, 0)] * 3),
    ],
)
def test_steps_that_are_added_and_removed(ended: Bench, after: str, expected: Any) -> None:
    before = files(ended)
    diff = line(ended, steps(after)).diff("a")
    assert [(what, kept, to_do) for _, what, kept, to_do in told(diff)] == expected
    assert files(ended) == before
    CALLS.clear()
    line(ended, steps(after)).resume("a", on_change="rerun").run()
    assert dict(CALLS) == {name: to_do for name, (_, _, to_do) in zip(after, expected, strict=False) if to_do}


def test_an_edit_new_rows_and_failed_rows_are_counted_together(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    line(bench, [Step("A"), Step("B", fail_at=3), Step("C", fail_at=5)], on_error="dead_letter").create("a").run()
    with bench.input.open("a") as file:
        file.write('{"n": 12}\n{"n": 13}\n')
    edited = line(bench, steps("ABc"), on_error="dead_letter")
    assert told(edited.diff("a")) == [("node_0", "kept", 12, 2), ("node_1", "kept", 12, 2), ("node_2", "redone", 0, 13)]
    assert [node.dead_letters for node in edited.diff("a").nodes] == [0, 1, 0]
    replayed = edited.diff("a", replay=True)
    assert told(replayed) == [("node_0", "kept", 12, 2), ("node_1", "kept", 11, 3), ("node_2", "redone", 0, 14)]
    assert [node.dead_letters for node in replayed.nodes] == [0, 0, 0]
    assert done(bench, edited, "replay") == [2, 3, 14]


def test_a_run_that_has_not_ended_has_rows_to_do_everywhere(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    with pytest.raises(NodeFailedError):
        line(bench, [Step("A"), Step("B", fail_at=7), Step("C")]).create("a").run()
    diff = line(bench, steps("ABc")).diff("a")  # C has done no row, so it may be edited
    assert told(diff) == [("node_0", "kept", 12, 0), ("node_1", "kept", 7, 5), ("node_2", "kept", 0, 12)]
    assert (diff.kept_as, diff.is_edited) == ("", False)
    edited = line(bench, steps("AbC")).diff("a")
    assert told(edited)[1:] == [("node_1", "redone", 0, 12), ("node_2", "redone", 0, 12)]


def odd(row: dict[str, Any]) -> dict[str, Any] | None:
    return row if row["n"] % 2 else None


def test_rows_behind_a_filter_are_estimated_by_its_share(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    bench.pipeline([odd, Step("C")]).create("a").run()
    with bench.input.open("a") as file:
        file.writelines(f'{{"n": {n}}}\n' for n in range(ROWS, 2 * ROWS))
    diff = bench.pipeline([odd, Step("C")]).diff("a")
    assert told(diff) == [("node_0", "kept", 12, 12), ("node_1", "kept", 6, 6)]
    assert str(diff).splitlines()[1].endswith(f"{diff.nodes[1].operator}: kept, 6 rows kept, ~6 to do")


def test_a_graph_is_compared_as_well(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    folder = bench.folder

    def graph(marks: str) -> UnifiedNodePipeline:
        uri = {name: f"jsonl://{folder}/{name}.jsonl" for name in ("in", "left", "right", "out")}
        nodes = [
            UnifiedNode("A", follow_input=False).bind_io(uri["in"], uri["left"]),
            UnifiedNode("B", follow_input=False).bind_io(uri["in"], uri["right"]),
            UnifiedNode("C").bind_io([uri["left"], uri["right"]], uri["out"]),
        ]
        for node, mark in zip(nodes, marks, strict=True):
            node.set_operator(Step(node.node_id, mark))
        return UnifiedNodePipeline(nodes, results_dir=bench.results, log_file=None)

    graph("ABC").create("a").run()
    diff = graph("AbC").diff("a")
    found = {node_id: (what, kept, to_do) for node_id, what, kept, to_do in told(diff)}
    assert found["A"] == ("kept", 12, 0)
    assert found["B"] == ("redone", 0, 12)
    assert found["C"] == ("redone", 0, 24)


def test_what_cannot_be_compared_is_refused(ended: Bench) -> None:
    pipeline = line(ended, steps("AbC"))
    with pytest.raises(PipelineNotFoundError):
        pipeline.diff("b")
    with pytest.raises(ConfigError, match="no operators were given"):
        UnifiedPipeline(results_dir=ended.results, log_file=None).diff("a")
    lock = RunFolder(ended.results, "a").lock
    lock.acquire()
    with pytest.raises(PipelineBusyError, match="is being run"):
        pipeline.diff("a")
    lock.release()
    run_state = ended.run_state("a")
    ended.put_run_state("a", {**run_state, "reset": {"delete": [], "move": []}})
    with pytest.raises(RunStateError, match="was cut short"):
        pipeline.diff("a")
    ended.put_run_state("a", run_state)
    pipeline.resume("a", on_change="rerun").run()
    with pytest.raises(ConfigError, match="'a@1' is an earlier version"):
        pipeline.diff("a@1")
    ended.output.write_text(ended.output.read_text().replace("n", "m"))
    with pytest.raises(StreamCorruptError, match="checksum"):
        pipeline.diff("a")


PRICES = Prices(input=1.0, output=2.0)


def models(server: FakeLLMServer, prompts: Sequence[str], **settings: Any) -> list[LLMOperator]:
    """Return steps that ask a model; each puts its answer into a column of its own."""
    return [
        LLMOperator(prompt, model="fake", base_url=server.base_url, output=f"a{number}", prices=PRICES, **settings)
        for number, prompt in enumerate(prompts)
    ]


PROMPTS = ("first {{ n }}", "second {{ n }} {{ a0 }}", "third {{ n }} {{ a1 }}", "fourth {{ n }} {{ a2 }}")
EDITED = (*PROMPTS[:2], "another {{ n }} {{ a1 }}", PROMPTS[3])


@pytest.mark.slow
def test_only_what_follows_an_edited_prompt_is_paid_for_as_the_diff_has_said(bench: Bench) -> None:
    """Prompt of step 3 of 4 edited: the endpoint's own count says that steps 3 and 4 were asked, and no other."""
    bench.give(numbered(ROWS))
    with FakeLLMServer(answer="yes") as server:
        first = line(bench, models(server, PROMPTS)).create("a").run()
        assert server.calls == 4 * ROWS
        edited = line(bench, models(server, EDITED))
        diff = edited.diff("a")
        assert server.calls == 4 * ROWS
        assert [node.what for node in diff.nodes] == ["kept", "kept", "redone", "redone"]
        assert [node.use and node.use.calls for node in diff.nodes] == [0, 0, ROWS, ROWS]
        paid = [node.cost or 0.0 for node in first.nodes]
        assert diff.use.cost == pytest.approx(paid[2] + paid[3])
        assert diff.unknown == ()
        report = edited.resume("a", on_change="rerun").run()
        assert server.calls == 6 * ROWS
        asked = {text.split()[0] for text in server.prompts}
        assert asked == {"first", "second", "third", "fourth", "another"}
        assert sum(count for text, count in server.prompts.items() if text.startswith("another")) == ROWS
        assert [node.usage[0]["requests"] for node in report.nodes] == [ROWS, ROWS, 2 * ROWS, 2 * ROWS]
        again = line(bench, models(server, PROMPTS)).diff("a")  # usage is of both versions, and so are its rows
        assert [node.use and node.use.calls for node in again.nodes] == [0, 0, ROWS, ROWS]
    assert [row["a3"] for row in lines(bench.output)] == ["yes"] * ROWS


@pytest.mark.slow
def test_with_a_cache_an_answer_that_is_the_same_is_not_paid_for_again(bench: Bench, tmp_path: Path) -> None:
    """The third step is asked anew; its answers are the same, and so are the fourth step's prompts."""
    bench.give(numbered(ROWS))
    cache = str(tmp_path / "answers.sqlite")
    with FakeLLMServer(answer="yes") as server:
        line(bench, models(server, PROMPTS, cache=cache)).create("a").run()
        edited = line(bench, models(server, EDITED, cache=cache))
        assert edited.diff("a").use.calls == 2 * ROWS
        edited.resume("a", on_change="rerun").run()
        assert server.calls == 5 * ROWS
        back = line(bench, models(server, PROMPTS, cache=cache))  # the edit is undone: all answers are there
        back.resume("a", on_change="rerun").run()
        assert server.calls == 5 * ROWS


def test_of_a_step_that_has_done_nothing_the_cost_is_not_known(bench: Bench) -> None:
    bench.give(numbered(ROWS))
    with FakeLLMServer(answer="yes") as server:
        line(bench, models(server, PROMPTS[:2])).create("a").run()
        diff = line(bench, models(server, PROMPTS[:3])).diff("a")
    assert [(node.what, node.use is None) for node in diff.nodes] == [("kept", False), ("kept", False), ("new", True)]
    assert diff.unknown == ("node_2",)
    assert diff.as_dict()["nodes"][2]["use"] is None


def test_settings_of_the_code_that_are_not_used_are_told(ended: Bench) -> None:
    (note,) = line(ended, steps("ABC"), parallel_size=7).diff("a").notes
    assert "parallel_size=7" in note
