"""`create()` of hand-wired nodes takes what the constructor takes, as that of a line of operators does (M4, M9)."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import ConfigError, DefaultPipelineHooks, Status, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline

from ..kit.support import Bench, lines, numbered


class Heard(DefaultPipelineHooks):
    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        self.ended.append(cid)


def nodes(bench: Bench) -> list[UnifiedNode]:
    bench.give(numbered(4))
    between = bench.folder / "between.jsonl"
    first = UnifiedNode("first", follow_input=False).bind_io(f"jsonl://{bench.input}", f"jsonl://{between}")
    second = UnifiedNode("second").bind_io(f"jsonl://{between}", f"jsonl://{bench.output}")
    return [first.set_operator(lambda item: item), second.set_operator(lambda item: item)]


@pytest.mark.integration
@pytest.mark.parametrize("streaming", [False, True])
def test_what_create_is_given_counts(bench: Bench, streaming: bool) -> None:
    heard = Heard()
    pipeline = UnifiedNodePipeline(nodes(bench), streaming=not streaming, results_dir=bench.folder / "not-here")
    pipeline.create(
        "a", streaming=streaming, results_dir=bench.results, hooks=heard, log_file=bench.folder / "other.log"
    )
    assert pipeline.streaming is streaming
    assert bench.run_state("a")["config"]["streaming"] is streaming
    assert pipeline.run().status is Status.COMPLETED
    assert heard.ended == ["a"]
    assert (bench.folder / "other.log").exists()
    assert not (bench.folder / "not-here").exists()
    assert len(lines(bench.output)) == 4


@pytest.mark.parametrize("kind", ["nodes", "line"])
@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"streaming": "yes"}, "streaming .* 'yes'"),
        ({"hooks": Heard}, "hooks must be an instance"),
        ({"log_file": 5}, "log_file"),
        ({"results_dir": ""}, "results_dir"),
        ({"results_dir": 5}, "results_dir .* 5"),
        (
            {"nodes": []},
            "no setting 'nodes'; known are .*streaming, .*results_dir, hooks, .*log_file",
        ),
    ],
    ids=str,
)
def test_a_wrong_override_is_named_and_leaves_no_trace(
    bench: Bench, kind: str, wrong: dict[str, Any], names: str
) -> None:
    pipeline: UnifiedNodePipeline | UnifiedPipeline = (
        UnifiedNodePipeline(nodes(bench), results_dir=bench.results, log_file=None)
        if kind == "nodes"
        else bench.pipeline([lambda item: item])
    )
    before, settings = bench.files(), dict(vars(pipeline))
    with pytest.raises(ConfigError, match=names):
        pipeline.create("a", **{"hooks": Heard(), **wrong})
    assert bench.files() == before
    assert vars(pipeline) == settings
