"""Models of all shards keep to one budget and one limit: the driver runs the service that shares them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from llm_datagen.llm import LLMOperator
from llm_datagen.runs import RunFolder
from llm_datagen.shards.allowance import Allowance
from llm_datagen.shards.local import LocalExecutor
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.testing import FakeLLMServer

from ..kit.shards import InThreads, in_shards
from ..kit.support import Bench, lines, nothing_left, numbered


def operator(server: FakeLLMServer, **settings: Any) -> LLMOperator:
    return LLMOperator("Say yes to {{ n }}.", model="m", base_url=server.base_url, **settings)


@pytest.mark.slow
@pytest.mark.process
def test_a_budget_holds_for_all_shards_together_and_a_resume_may_raise_it(bench: Bench) -> None:
    """Two worker processes: the endpoint's own account is within the cap; the run is stopped, and goes on with more."""
    bench.give(numbered(40))
    with FakeLLMServer(answer="yes") as server, nothing_left():
        pipeline = in_shards(
            bench.pipeline([operator(server, budget={"tokens": 300}, params={"max_tokens": 8})], parallel_size=2),
            executor=LocalExecutor(2),
            merge="concat",
        )
        report = pipeline.create("a").run(progress=False)
        assert report.status == "stopped"
        assert report.reason.startswith("the budget of ")
        spent = sum(entry["prompt_tokens"] + entry["completion_tokens"] for entry in report.usage)
        assert 0 < spent <= 300
        assert server.tokens <= 300
        more = in_shards(
            bench.pipeline([operator(server, budget={"tokens": 30_000}, params={"max_tokens": 8})]),
            executor=LocalExecutor(2),
        )
        assert more.resume("a").run(progress=False).rows_out == 40
    assert [row["n"] for row in sorted(lines(bench.output), key=lambda row: row["_i"])] == list(range(40))


def test_what_shards_have_spent_of_fixed_shares_counts_when_a_driver_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M21: two shards are done as tasks of an array; a driver with a service does the others, within the cap."""
    bench.give([{"n": n} for n in range(45)] + [{"n": "9" * 300} for _ in range(100)])
    with FakeLLMServer(answer="yes") as server:
        asking = operator(server, budget={"tokens": 6000}, params={"max_tokens": 8})
        pipeline = in_shards(bench.pipeline([asking]), shards=8, executor=InThreads(1))
        monkeypatch.setenv("LLM_DATAGEN_SHARE", "0/2")
        for number in (0, 1):
            with pipeline.shard(number, "a") as shard:
                assert shard.run(progress=False).status == "completed"
        before = server.tokens
        monkeypatch.delenv("LLM_DATAGEN_SHARE")
        assert pipeline.resume("a").run(progress=False).status == "stopped"
        assert 1000 < before < server.tokens <= 6000


def test_a_shard_that_others_start_has_its_part_of_the_budget(bench: Bench) -> None:
    """In Python as on the command line: four processes with the whole budget each would spend four times as much."""
    bench.give(numbered(40))
    with FakeLLMServer(answer="yes") as server, nothing_left():
        pipeline = bench.pipeline([operator(server, budget={"tokens": 1000}, params={"max_tokens": 8})])
        for number in range(4):
            with ShardedPipeline(pipeline, shards=4).shard(number, "a") as shard:
                assert shard.run(progress=False).status == "stopped"
        assert 0 < server.tokens <= 1000
    assert "LLM_DATAGEN_SHARE" not in os.environ


def test_shards_are_told_of_a_service_only_where_there_is_something_to_share(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(bench.results, "a")
    with FakeLLMServer(answer="yes") as server:
        free, limited = operator(server), operator(server, requests_per_minute=60)
        for operators in ([], [free], [lambda row: row]):
            assert Allowance(operators, folder).environment() == {}
        allowance = Allowance([free, limited], folder)
        told = allowance.environment()
        assert told["LLM_DATAGEN_GRANTS"].startswith("http://127.0.0.1:")
        assert told["LLM_DATAGEN_GRANTS_TOKEN"]
        allowance.stop()
        elsewhere = Allowance([limited], RunFolder(bench.results, "b"), "driver.example.org")
        assert elsewhere.environment()["LLM_DATAGEN_GRANTS"].startswith("http://driver.example.org:")
        elsewhere.stop()
        monkeypatch.setenv("LLM_DATAGEN_SHARE", "0/2")
        assert Allowance([limited], folder).environment() == {}
