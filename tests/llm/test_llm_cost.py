"""What calls cost, in answers, reports and the image of the run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError, NodeFailedError, StopRun
from llm_datagen.llm import LLMOperator
from llm_datagen.runs.display.lines import node_line
from llm_datagen.runs.display.node_view import view_of
from llm_datagen.runs.usage import UsageSums, dollars

from ..kit.support import write_jsonl
from .chat_server import ChatServer, Context, Reply, completion, run_rows

PRICES = {"input": 0.1, "output": 0.4}
A_CALL = 7 * 0.1e-6 + 3 * 0.4e-6
"""What the server's usual usage costs then."""


def test_costs_are_summed_per_node_and_run_and_over_resumes(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{k}"} for k in range(10)])
    server.reply = lambda seen: Reply(completion("x"), 400 if len(server.seen) == 7 else 200)

    def pipeline() -> UnifiedPipeline:
        ask = server.operator(prices=PRICES, n=2)
        judge = server.operator(prices=PRICES, output="judged", cache="answers.sqlite", model="big")
        return UnifiedPipeline([ask, judge], "jsonl://in.jsonl", "jsonl://out.jsonl")

    with pytest.raises(NodeFailedError):
        pipeline().create("job").run()
    report = pipeline().resume("job").run()
    # The calls of the row that failed are paid for as well: it is done again.
    asked = next(entry["requests"] for entry in report.nodes[0].usage)
    assert asked in (20, 21)
    assert report.nodes[0].cost == pytest.approx(asked * A_CALL, abs=1e-15)
    assert report.nodes[1].cost == pytest.approx(10 * A_CALL, abs=1e-15), "what is in the cache costs nothing"
    assert report.cost == pytest.approx((asked + 10) * A_CALL, abs=1e-15)
    assert {entry["model"]: entry["cost"] for entry in report.usage} == {
        "tiny": report.nodes[0].cost,
        "big": report.nodes[1].cost,
    }
    image = json.loads((tmp_path / "tmp/results/job/runtime.json").read_text())
    assert [node["usage"][0]["cost"] for node in image["nodes"]] == [node.cost for node in report.nodes]
    assert (image["usage"], image["cost"]) == (report.usage, report.cost)
    assert "100 tokens, $0.000019" in node_line(view_of(image["nodes"][1]))


def test_a_model_without_a_known_price_costs_nobody_knows_what(server: ChatServer) -> None:
    ctx = Context()
    asyncio.run(run_rows(server.operator(), [{"q": "a"}, {"q": "b"}], ctx))
    assert [used for used in ctx.usage if "cost" in used] == []
    assert len(ctx.lines) == 1
    assert "no price is known of model 'tiny'" in ctx.lines[0]


def test_an_answer_that_cannot_be_used_and_its_repair_are_both_paid_for(server: ChatServer) -> None:
    ctx = Context()
    replies = [completion("no JSON"), completion('{"a": 1}')]
    server.reply = lambda seen: Reply(replies[len(server.seen) - 1])
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    asyncio.run(run_rows(server.operator(output=schema, prices=PRICES), [{"q": "a"}], ctx))
    assert [used["cost"] for used in ctx.usage] == [A_CALL, A_CALL]
    assert not ctx.lines


def test_prompt_tokens_from_the_cache_of_the_endpoint_have_their_own_price(server: ChatServer) -> None:
    ctx = Context()
    usage = {"prompt_tokens": 100, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 90}}
    server.always(completion("x", usage=usage))
    asyncio.run(run_rows(server.operator(prices={**PRICES, "cached_input": 0}), [{"q": "a"}], ctx))
    assert ctx.usage[0]["cached_tokens"] == 90
    assert ctx.usage[0]["cost"] == 1e-6


def test_the_endpoints_of_a_pool_have_their_own_prices_and_share_the_budget(server: ChatServer) -> None:
    ctx = Context()
    rates = {"dear": {"input": 100, "output": 100}, "cheap": {"input": 1, "output": 1}}
    pool = [{"model": name, "base_url": server.base_url, "prices": rate} for name, rate in rates.items()]
    asking: dict[str, Any] = {"endpoints": pool, "params": {"max_tokens": 5}, "budget": {"usd": 0.03}}
    ask = LLMOperator("{{ q }}", **asking)
    assert asyncio.run(run_rows(ask, [{"q": "a"}] * 4, ctx)) == [{"q": "a", "answer": "yes"}] * 4
    assert {(used["model"], used["cost"]) for used in ctx.usage} == {("dear", 1e-3), ("cheap", 1e-5)}
    with pytest.raises(StopRun, match="the budget of"):
        asyncio.run(run_rows(ask, [{"q": "a"}] * 40))
    pool[1].pop("prices")
    with pytest.raises(ConfigError, match="no price is known of model 'cheap'"):
        LLMOperator("{{ q }}", **asking)


def test_sums_of_money_do_not_drift() -> None:
    sums = UsageSums()
    for _ in range(100_000):
        sums.add("p", "m", {"cost": 0.0000101})
    assert sums.as_list()[0]["cost"] == 1.01
    assert [dollars(value) for value in (0, 0.0000191, 0.5, 1234.5)] == ["$0.00", "$0.000019", "$0.5000", "$1,234.50"]
