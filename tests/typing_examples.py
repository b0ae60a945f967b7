"""What the public names are to a type checker. Nothing here runs: mypy and pyright read it (see `.ci/run`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

import pykka

from llm_datagen import (
    BaseOperator,
    DatagenError,
    DefaultPipelineHooks,
    INodeContext,
    IOperator,
    IPipelineHooks,
    NodeConfig,
    NodeReport,
    Operator,
    OperatorError,
    Result,
    Row,
    RunError,
    RunReport,
    Status,
    StreamError,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.actors import PipelineActor
from llm_datagen.llm import Budget, Endpoint, LLMError, LLMOperator, Prices
from llm_datagen.runs.logs import LogEvent, LogSummary, read, summary


def double(row: Row) -> Row:
    """Return a row for a row."""
    return {"n": row["n"] * 2}


def split(row: Row, ctx: INodeContext) -> Result:
    """Return a row, several, or none."""
    assert_type(ctx.node_id, str)
    assert_type(ctx.folder, Path | None)
    assert_type(ctx.is_cancelled(), bool)
    if row["n"] < 0:
        return None
    return [row, row] if row["n"] > 9 else row


async def ask(row: Row) -> Result:
    """Await something."""
    return row


class Total(BaseOperator):
    """An operator with batches."""

    def process_batch(self, items: Sequence[Row], ctx: INodeContext) -> list[Result]:
        """Return a result per row."""
        ctx.report_usage({"model": "m", "prompt_tokens": len(items)})
        return list(items)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what the results depend on."""
        return {"version": 2}


class Watcher(DefaultPipelineHooks):
    """Hooks that watch progress only."""

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        """Print how far a node is."""
        print(cid, nid, curr, total)


def operators() -> None:
    """Functions and objects are operators alike."""
    steps: list[Operator] = [double, split, ask, Total(), str.upper]
    named: IOperator = Total()
    hooks: IPipelineHooks = Watcher()
    pipeline = UnifiedPipeline(steps, "jsonl://in.jsonl", "jsonl://out.jsonl", streaming=True, hooks=hooks)
    assert_type(named.name, str)
    assert_type(pipeline, UnifiedPipeline)
    assert_type(pipeline.create("a", node_configs=[NodeConfig(parallel_size=4)]), UnifiedPipeline)
    assert_type(pipeline.resume("a"), UnifiedPipeline)


def runs(pipeline: UnifiedPipeline) -> None:
    """What a run gives."""
    report = pipeline.run()
    assert_type(report, RunReport)
    assert_type(report.status, Status)
    assert_type(report.rows_out, int)
    assert_type(report.cost, float | None)
    assert_type(report.nodes, tuple[NodeReport, ...])
    assert_type(report.nodes[0].pending, int | None)
    assert_type(pipeline.start(), pykka.ActorRef[PipelineActor])
    assert_type(pipeline.wait(timeout=5.0), RunReport)
    with pipeline.running() as ref:
        assert_type(ref, pykka.ActorRef[PipelineActor])


async def on_an_event_loop(pipeline: UnifiedPipeline) -> None:
    """The same, awaited."""
    assert_type(await pipeline.run_async(), RunReport)


def nodes() -> None:
    """Nodes that are wired by hand."""
    node = UnifiedNode("double", parallel_size=2)
    node.set_operator(double)
    node.bind_io("jsonl://in.jsonl", "jsonl://out.jsonl")
    assert_type(UnifiedNodePipeline([node]).create("b"), UnifiedNodePipeline)


def models() -> None:
    """Options of a model are typed, or dicts."""
    limited = {"max_tokens": 100}
    pool = LLMOperator("{{ q }}", endpoints=[Endpoint(model="m", weight=2), {"model": "n"}], budget=Budget(usd=5.0))
    assert_type(pool.budget, Budget | None)
    assert_type(pool.endpoints, tuple[Endpoint, ...])
    LLMOperator("{{ q }}", model="m", prices=Prices(input=1, output=2), budget={"tokens": 500}, params=limited)


def errors(pipeline: UnifiedPipeline) -> str:
    """Each error is under a base, and all are under one."""
    try:
        pipeline.run()
    except RunError as error:
        assert_type(error, RunError)
    except (OperatorError, StreamError, LLMError) as error:
        base: DatagenError = error
        return str(base)
    return ""


def logs() -> None:
    """The platform log, read."""
    for event in read("logs/platform.log", event="Node Ended"):
        assert_type(event, LogEvent)
        assert_type(event.fields, dict[str, Any])
    assert_type(summary("logs/platform.log"), LogSummary)
