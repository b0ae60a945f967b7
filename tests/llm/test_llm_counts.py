"""What was served is counted, whatever came of it; and no count is believed that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMError, LLMOperator
from llm_datagen.llm.cost.plausibility import believable
from llm_datagen.llm.http.reading import chat_counts
from llm_datagen.llm.types import ChatRequest

from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, completion, run_rows

PRICES = {"input": 1.0, "output": 2.0}
REQUEST = ChatRequest(messages=[{"role": "user", "content": "x" * 1000}], params={"max_tokens": 100}, model="m")


@pytest.mark.integration
def test_every_call_that_was_served_is_in_the_usage_and_its_cost(server: ChatServer) -> None:
    good, served = completion("yes"), {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    replies = [
        Reply({**good, "choices": []}),
        Reply({**good, "choices": None}),
        Reply(completion("half", finish_reason="error")),
        Reply({"error": {"message": "hiccup"}}),
        *[Reply('{"choices": [{"mess')] * 5,
        Reply(good),  # the ping, after five failures
        Reply("no", 500),
        Reply(good),
        Reply(completion("cut", finish_reason="length")),
    ]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    ctx = Context()
    operator = server.operator(max_retries=12, retry_wait=0.0001, prices=PRICES)

    async def ask() -> None:
        with pytest.raises(LLMError, match="cut off"):
            await run_rows(operator, [{"_i": 0, "q": "x"}, {"_i": 1, "q": "y"}], ctx)

    asyncio.run(ask())
    assert len(server.seen) == len(replies)
    assert sum(entry["requests"] for entry in ctx.usage) == len(replies) - 1, "all but the HTTP 500"
    priced = [entry for entry in ctx.usage if "total_tokens" in entry]
    assert len(priced) == 6
    for entry in priced:
        assert {name: entry[name] for name in served} == served
        assert entry["cost"] == pytest.approx(7e-6 + 2 * 3e-6)


@pytest.mark.integration
@pytest.mark.parametrize("bad", [{"choices": []}, {"choices": None}, {"choices": [{"message": None}]}])
def test_no_answer_in_a_completion_is_the_rows_failure_and_no_outage(server: ChatServer, bad: dict[str, Any]) -> None:
    server.always(completion("yes") | bad)
    with pytest.raises(LLMError, match="row 0 did not send a chat completion") as caught:
        asyncio.run(run_rows(server.operator(max_retries=6, retry_wait=0.0001, outage_after=60), [{"_i": 0, "q": "x"}]))
    assert type(caught.value).__name__ == "LLMRequestError"
    assert len(server.seen) == 7


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 6.2, "completion_tokens": 3.0}, {"prompt_tokens": 7, "completion_tokens": 3}),
        ({"prompt_tokens": True, "completion_tokens": "3", "total_tokens": float("nan")}, {}),
        ({"prompt_tokens": 7, "prompt_tokens_details": 5}, {"prompt_tokens": 7}),
        (
            {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2.5}},
            {"prompt_tokens": 7, "cached_tokens": 3},
        ),
        ("no", {}),
        ([1], {}),
        (None, {}),
    ],
)
def test_counts_are_whole_numbers_rounded_up_and_the_rest_is_not_said(usage: Any, counts: Any) -> None:
    assert chat_counts(usage) == counts


@pytest.mark.parametrize(
    ("usage", "believed"),
    [
        ({"prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000}, True),
        ({"prompt_tokens": 5000, "completion_tokens": 30_000}, True),
        ({"prompt_tokens": -5000, "completion_tokens": 3}, False),
        ({"prompt_tokens": 7, "completion_tokens": -3}, False),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": -1}, False),
        ({"prompt_tokens": 10**7, "completion_tokens": 3}, False),
        ({"prompt_tokens": 7, "completion_tokens": 10**30}, False),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10**9}, False),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, False),
        ({}, True),
    ],
)
def test_a_count_that_cannot_be_is_taken_as_not_said(usage: Mapping[str, int], believed: bool) -> None:
    kept, nonsense = believable(usage, REQUEST)
    assert (kept, bool(nonsense)) == ((usage, False) if believed else ({}, True))


@pytest.mark.parametrize("cached", [-1, 8])
def test_a_part_of_the_prompt_is_no_more_than_the_prompt(cached: int) -> None:
    kept, nonsense = believable({"prompt_tokens": 7, "cached_tokens": cached}, REQUEST)
    assert kept == {"prompt_tokens": 7}
    assert nonsense == f"cached_tokens {cached}"


@pytest.mark.parametrize("thoughts", [-1, 21])
def test_thoughts_are_a_part_of_the_answer_and_no_more(thoughts: int) -> None:
    counts = {"prompt_tokens": 7, "completion_tokens": 12, "total_tokens": 27}  # 8 are in the total only
    kept, nonsense = believable({**counts, "reasoning_tokens": thoughts}, REQUEST)
    assert (kept, nonsense) == (counts, f"reasoning_tokens {thoughts}")
    assert believable({**counts, "reasoning_tokens": 20}, REQUEST) == ({**counts, "reasoning_tokens": 20}, "")


@pytest.mark.integration
@pytest.mark.parametrize("prompt_tokens", [-5000, 10**30, 0])
def test_a_budget_holds_against_an_endpoint_that_reports_nonsense(
    server: ChatServer, tmp_path: Path, prompt_tokens: int
) -> None:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 0, "total_tokens": prompt_tokens}
    server.always(completion("yes", usage=usage))
    write_jsonl(tmp_path / "in.jsonl", [{"q": "x" * 500} for _ in range(40)])
    operator = server.operator(budget={"tokens": 10_000}, params={"max_tokens": 300})
    streams = (f"jsonl://{tmp_path}/in.jsonl", f"jsonl://{tmp_path}/out.jsonl")
    job = UnifiedPipeline([operator], *streams, results_dir=str(tmp_path), log_file=str(tmp_path / "platform.log"))
    report = job.create("job").run()
    assert "the budget of 10,000 tokens is reached" in report.reason
    # A call can take 500 letters, what is around them, and 300 of the answer: about 1,000 tokens.
    assert 8 <= len(server.seen) <= 10
    assert len(lines(tmp_path / "out.jsonl")) == len(server.seen)
    log = "".join(path.read_text() for path in tmp_path.rglob("platform.log"))
    assert log.count("which cannot be") == 1


@pytest.mark.parametrize("price", [1e9, -1, float("nan"), float("inf")])
def test_a_price_that_cannot_be_is_refused(price: float) -> None:
    with pytest.raises(ConfigError, match="US dollars per million tokens, from 0 to 100,000"):
        LLMOperator("hi", model="m", prices={"input": price, "output": 1})


@pytest.mark.integration
def test_a_reservation_that_no_file_can_hold_is_too_much_for_any_budget(server: ChatServer, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": "x"}])
    operator = server.operator(budget={"usd": 5}, prices=PRICES, params={"max_tokens": 10**18})
    streams = (f"jsonl://{tmp_path}/in.jsonl", f"jsonl://{tmp_path}/out.jsonl")
    job = UnifiedPipeline([operator], *streams, results_dir=str(tmp_path), log_file=None)
    assert "the budget of $5" in job.create("job").run().reason
    assert server.seen == []
