"""Steps that are edited in a run with a target: it is that of the last step, and of no other (M22)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llm_datagen import Generate, NodeConfig, ops
from llm_datagen.runs.verify import verify

from ..kit.support import Bench, lines, numbered
from .edited_steps import line

TARGET = 20


def keep() -> Any:
    return ops.Keep("n >= 0")


def choose(column: str = "c") -> Any:
    return ops.Choose(column, {"x": 1, "y": 1})


def half() -> Any:
    return ops.Sample(share=0.5)


def targets(bench: Bench) -> list[int | None]:
    return [entry["target"] for entry in bench.run_state("a")["nodes"] if entry["operator"] != "export"]


EDITS: dict[str, tuple[list[Callable[[], Any]], list[Callable[[], Any]]]] = {
    "the last step is removed": ([keep, choose, half], [keep, choose]),
    "a step is added behind the last": ([keep, choose], [keep, choose, half]),
    "the last step is replaced": ([keep, choose], [keep, half]),
    "a step in the middle is removed": ([keep, choose, half], [keep, half]),
    "the last step goes first": ([keep, choose, half], [half, keep, choose]),
    "a step of the same class is added": ([keep, choose], [keep, lambda: choose("d"), choose]),
}


@pytest.mark.parametrize("settings", [{}, {"keep_ids": False}], ids=["ids", "no ids"])
@pytest.mark.parametrize("edit", EDITS)
def test_the_output_has_the_rows_of_the_target_whatever_steps_there_are(
    bench: Bench, edit: str, settings: dict[str, Any]
) -> None:
    before, after = EDITS[edit]
    bench.give(numbered(3000))
    settings = {"streaming": True, "target": TARGET, **settings}
    line(bench, [step() for step in before], **settings).create("a").run()
    edited = line(bench, [step() for step in after], **settings)
    report = edited.resume("a", on_change="rerun").run()

    assert report.status == "completed"
    assert len(lines(bench.output)) == TARGET
    assert targets(bench) == [*[None] * (len(after) - 1), TARGET]
    assert [node.target_rows for node in report.nodes][: len(after)] == targets(bench)
    assert not any(account.findings for account in verify(bench.run_state("a")))

    line(bench, [step() for step in after], **settings).resume("a", target=TARGET + 5).run()
    assert len(lines(bench.output)) == TARGET + 5


def test_a_kept_step_with_more_rows_than_the_target_is_done_again_and_diff_says_so(bench: Bench) -> None:
    bench.give(numbered(100))
    line(bench, [keep(), choose(), half()], target=TARGET).create("a").run()
    edited = line(bench, [keep(), choose()], target=TARGET)
    last = edited.diff("a").nodes[1]

    assert (last.what, last.reasons) == ("redone", ("it has 100 rows, and its target is 20 now",))
    edited.resume("a", on_change="rerun").run()
    assert len(lines(bench.output)) == TARGET


def test_an_endless_input_still_ends_when_the_last_step_is_removed(bench: Bench) -> None:
    settings: dict[str, Any] = {"input_uri": None, "input": Generate({"n": [1, 2, 3]}, seed=1), "streaming": True}
    line(bench, [keep(), choose(), half()], target=TARGET, **settings).create("a").run()
    line(bench, [keep(), choose()], target=TARGET, **settings).resume("a", on_change="rerun").run()
    assert len(lines(bench.output)) == TARGET


def test_a_target_that_is_raised_with_the_edit_is_that_of_the_last_step(bench: Bench) -> None:
    bench.give(numbered(3000))
    line(bench, [keep(), choose("c"), choose("d")], target=10).create("a").run()
    steps = [keep(), choose("e"), choose("c"), choose("d")]
    line(bench, steps, target=10).resume("a", on_change="rerun", target=25).run()
    assert (len(lines(bench.output)), targets(bench)) == (25, [None, None, None, 25])


def test_a_step_in_the_middle_keeps_its_own_target(bench: Bench) -> None:
    bench.give(numbered(300))
    configs = [NodeConfig(target=50)]
    line(bench, [keep(), choose(), half()], node_configs=configs, target=TARGET).create("a").run()
    line(bench, [keep(), half()], node_configs=configs, target=TARGET).resume("a", on_change="rerun").run()
    assert (len(lines(bench.output)), targets(bench)) == (TARGET, [50, TARGET])
