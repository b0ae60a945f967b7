"""The samples of a row by one request: the provider's own ``n``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMAnswerError, LLMOperator, LLMRequestError
from llm_datagen.llm.http.adapters import BUILT_IN, adapter_of
from llm_datagen.llm.observer import CallSkippedError, Observer, observing
from llm_datagen.llm.sampling.together import parts_of
from llm_datagen.llm.types import ChatAnswer
from llm_datagen.testing import FakeLLMServer, cassette

from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, Seen, run_rows
from .providers import streams

ROW = {"_i": 5, "q": "hi"}
USAGE = {"prompt_tokens": 100, "completion_tokens": 31, "total_tokens": 131}
PRICES = {"input": 3.0, "output": 15.0}


def choices(*texts: Any, usage: Any = USAGE, reasons: Any = ()) -> dict[str, Any]:
    """Return a completion with several choices."""
    reasons = [*reasons, *["stop"] * len(texts)]
    made = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        for index, (text, reason) in enumerate(zip(texts, reasons, strict=False))
    ]
    return {"model": "tiny", "choices": made, "usage": usage}


def numbered(seen: Seen) -> Reply:
    """Answer with as many choices as are asked for."""
    return Reply(choices(*(f"answer {number}" for number in range(seen.body.get("n", 1)))))


def asked(server: ChatServer, reply: Callable[[Seen], Reply], ctx: Context | None = None, **options: Any) -> list[Any]:
    """Return the answers of a row."""
    server.reply = reply
    (rows,) = asyncio.run(run_rows(server.operator(**{"n": 3, **options}), [dict(ROW)], ctx))
    return [row if "output" in options or "meta" in options else row["answer"] for row in rows]


def test_one_request_brings_all_answers_and_what_it_used_counts_once(server: ChatServer) -> None:
    ctx = Context()
    rows = asked(server, numbered, ctx, meta=True, prices=PRICES, params={"max_tokens": 20})
    assert [row["answer"] for row in rows] == ["answer 0", "answer 1", "answer 2"]
    (seen,) = server.seen
    assert (seen.body["n"], seen.body["max_tokens"]) == (3, 20)
    cost = (100 * 3 + 31 * 15) / 1e6
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "tiny", "requests": 1, **USAGE, "cost": cost}]
    told = [row["_meta"]["node_0"] for row in rows]
    assert [each["prompt_tokens"] for each in told] == [33, 33, 34]
    assert sum(each["completion_tokens"] for each in told) == 31
    assert round(sum(each["cost"] for each in told) * 1e12) == round(cost * 1e12)


def test_parts_are_all_of_the_usage_and_the_cost_together() -> None:
    others = tuple(ChatAnswer(text="x" * number) for number in (0, 9, 40))
    usage = {**USAGE, "cached_tokens": 7, "reasoning_tokens": 5}
    parts = parts_of(ChatAnswer(text="abc", usage=usage, cost=0.123456789012, others=others, model="m", attempts=2))
    assert [part.text for part in parts] == ["abc", "", "x" * 9, "x" * 40]
    for name, count in usage.items():
        assert sum(part.usage[name] for part in parts) == count
    for part in parts:
        assert part.usage["total_tokens"] == part.usage["prompt_tokens"] + part.usage["completion_tokens"]
    assert sum(round((part.cost or 0) * 1e12) for part in parts) == 123456789012
    assert {(part.model, part.attempts, part.others) for part in parts} == {("m", 2, ())}


def test_choices_are_taken_by_their_index(server: ChatServer) -> None:
    body = choices("a", "b", "c")
    body["choices"].reverse()
    assert asked(server, lambda seen: Reply(body)) == ["a", "b", "c"]


def test_each_answer_has_an_entry_of_its_own_in_the_cache(server: ChatServer, tmp_path: Path) -> None:
    cache = str(tmp_path / "c.db")
    first = asked(server, numbered, cache=cache, prices=PRICES)
    assert asked(server, lambda seen: Reply("no", 500), cache=cache) == first
    more = asked(server, lambda seen: Reply(choices("d", "e")), cache=cache, n=5)
    assert more == [*first, "d", "e"]
    assert [seen.body.get("n", 1) for seen in server.seen] == [3, 2]
    ctx = Context()
    rows = asked(server, numbered, ctx, cache=cache, n=5, meta=True)
    assert [row["_meta"]["node_0"]["is_cached"] for row in rows] == [True] * 5
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "tiny", "cached": 1}] * 5
    # An answer of one request is stored as that of one sample is, and found by a row that asks for one.
    assert asyncio.run(run_rows(server.operator(cache=cache), [dict(ROW)])) == [{**ROW, "answer": "answer 0"}]
    assert len(server.seen) == 2


def test_equal_rows_at_once_ask_once_and_none_waits_for_ever(server: ChatServer, tmp_path: Path) -> None:
    server.reply = numbered

    async def ask() -> list[Any]:
        operator = server.operator(n=3, cache=str(tmp_path / "c.db"))
        more = server.operator(n=5, cache=str(tmp_path / "c.db"))
        await operator.setup()
        await more.setup()
        rows = [operator.process_item({**ROW, "_i": number}, Context()) for number in range(4)]
        found = await asyncio.wait_for(asyncio.gather(*rows, more.process_item(dict(ROW), Context())), 60)
        await operator.teardown()
        await more.teardown()
        return found

    *equal, _ = asyncio.run(ask())
    assert [[row["answer"] for row in rows] for rows in equal] == [["answer 0", "answer 1", "answer 2"]] * 4
    assert sum(1 for seen in server.seen if seen.body["n"] == 3) == 1


def test_what_an_endpoint_leaves_out_is_asked_for_again(server: ChatServer) -> None:
    def two(seen: Seen) -> Reply:
        return Reply(choices("a", "b")) if "n" in seen.body else Reply(choices(f"single {len(server.seen)}"))

    assert asked(server, two) == ["a", "b", "single 2"]
    server.seen.clear()
    assert sorted(asked(server, lambda seen: Reply(choices(f"one {len(server.seen)}")))) == ["one 1", "one 2", "one 3"]
    assert [seen.body.get("n") for seen in server.seen] == [3, None, None]


def test_an_endpoint_that_gives_one_or_refuses_is_not_asked_for_several_again(server: ChatServer) -> None:
    def refusing(seen: Seen) -> Reply:
        if "n" in seen.body:
            return Reply({"error": {"message": "'n' : number must be at most 1", "param": "n"}}, 400)
        return Reply(choices("yes"))

    for reply, times in ((refusing, 1), (lambda seen: Reply(choices("yes")), 3)):
        server.seen.clear()
        server.reply = reply
        ctx = Context()
        operator = server.operator(n=3, prices=PRICES)
        rows = asyncio.run(run_rows(operator, [{**ROW, "_i": number} for number in range(6)], ctx))
        assert [len(each) for each in rows] == [3] * 6
        assert [seen.body.get("n") for seen in server.seen].count(3) == times
        (line,) = ctx.lines
        assert "each answer is a request from now on" in line


def test_a_row_that_is_refused_fails_by_two_requests_and_the_next_one_is_asked_together(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        if seen.body["messages"][-1]["content"] == "bad":
            return Reply({"error": {"message": "no", "code": "content_policy_violation"}}, 400)
        return numbered(seen)

    server.reply = reply
    operator = server.operator(n=3)

    async def ask() -> Any:
        await operator.setup()
        with pytest.raises(LLMRequestError, match="a content filter refused the prompt"):
            await operator.process_item({"_i": 1, "q": "bad"}, Context())
        rows = await operator.process_item(dict(ROW), Context())
        await operator.teardown()
        return rows

    assert len(asyncio.run(ask())) == 3
    assert [seen.body.get("n") for seen in server.seen] == [3, None, 3]


def test_a_transient_failure_is_that_of_one_call(server: ChatServer) -> None:
    replies = [Reply("busy", 503), Reply("", pieces=[b"x"], is_cut=True)]

    def reply(seen: Seen) -> Reply:
        return replies.pop(0) if replies else numbered(seen)

    assert len(asked(server, reply, max_retries=3, retry_wait=0.001, outage_after=60)) == 3
    assert [seen.body["n"] for seen in server.seen if seen.body.get("max_tokens") != 1] == [3, 3, 3]


def test_a_choice_during_which_the_endpoint_failed_is_asked_for_again(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        if "n" in seen.body:
            return Reply(choices("a", "b", "c", reasons=["stop", "error"]))
        return Reply(choices("again"))

    assert asked(server, reply) == ["a", "c", "again"]


SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


def test_each_answer_is_repaired_by_itself_and_a_bad_one_fails_the_row(server: ChatServer, tmp_path: Path) -> None:
    def reply(seen: Seen) -> Reply:
        if "n" in seen.body:
            return Reply(choices('{"mood": "a"}', "nonsense", '{"mood": "c"}'))
        return Reply(choices(repaired))

    repaired = '{"mood": "b"}'
    rows = asked(server, reply, output=SCHEMA)
    assert [row["mood"] for row in rows] == ["a", "b", "c"]
    assert [len(seen.body["messages"]) for seen in server.seen] == [1, 3]
    repaired = "nonsense"
    cache = str(tmp_path / "c.db")
    with pytest.raises(LLMAnswerError, match="cannot be used after 2 answers"):
        asked(server, reply, output=SCHEMA, cache=cache)
    server.seen.clear()
    repaired = '{"mood": "new"}'
    rows = asked(server, reply, output=SCHEMA, cache=cache)
    assert [row["mood"] for row in rows] == ["a", "new", "c"]
    assert ["n" in seen.body for seen in server.seen] == [False]


def test_json_by_a_tool_comes_in_every_choice(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        body = choices(None, None, None, reasons=["tool_calls"] * 3)
        for number, choice in enumerate(body["choices"]):
            call = {
                "id": "c",
                "type": "function",
                "function": {"name": "answer", "arguments": f'{{"mood": "m{number}"}}'},
            }
            choice["message"]["tool_calls"] = [call]
        return Reply(body)

    rows = asked(server, reply, output=SCHEMA, structured="tool")
    assert [row["mood"] for row in rows] == ["m0", "m1", "m2"]
    assert len(server.seen) == 1


def test_several_answers_can_be_streamed(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        return Reply("", pieces=[streams.sse(streams.chat(choices("one", "two", "three")))])

    assert asked(server, reply, stream=True) == ["one", "two", "three"]
    cut = list(streams.chat(choices("one", "two", "three")))[:-3]  # the last choice has no reason to stop
    with pytest.raises(LLMRequestError, match="the stream ended before the answer did"):
        asked(server, lambda seen: Reply("", pieces=[streams.sse(iter(cut))]), stream=True)


def test_gemini_gives_up_to_eight_candidates(server: ChatServer) -> None:
    def reply(seen: Seen) -> Reply:
        count = seen.body.get("generationConfig", {}).get("candidateCount", 1)
        made = [
            {"index": k, "content": {"parts": [{"text": f"{count}/{k}"}]}, "finishReason": "STOP"} for k in range(count)
        ]
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5 * count, "totalTokenCount": 10 + 5 * count}
        return Reply({"candidates": made, "usageMetadata": usage})

    ctx = Context()
    found = asked(server, reply, ctx, n=11, adapter="gemini")
    assert found == [*(f"8/{k}" for k in range(8)), *(f"3/{k}" for k in range(3))]
    assert sorted((used["prompt_tokens"], used["completion_tokens"]) for used in ctx.usage) == [(10, 15), (10, 40)]
    several = {name: adapter_of(name).most_choices for name in BUILT_IN if adapter_of(name).most_choices > 1}
    assert several == dict.fromkeys(("openai", "azure", "azure-deployments", "mistral", "vllm"), 128) | {"gemini": 8}


def test_a_budget_counts_the_most_of_all_answers(server: ChatServer) -> None:
    options: dict[str, Any] = {"params": {"max_tokens": 500}, "n": 4}
    with pytest.raises(Exception, match=r"the next call can take up to 2,\d\d\d tokens"):
        asked(server, numbered, budget={"tokens": 2000}, **options)
    assert len(asked(server, numbered, budget={"tokens": 3000}, **options)) == 4


def test_with_seeds_on_cassettes_and_where_an_api_gives_one_each_answer_is_a_request(
    server: ChatServer, tmp_path: Path
) -> None:
    asked(server, numbered, seed=7)
    with cassette(tmp_path / "calls.jsonl", "once"):
        asked(server, numbered)
    assert [seen.body.get("n") for seen in server.seen] == [None] * 6
    with cassette(tmp_path / "calls.jsonl"):
        assert asked(server, lambda seen: Reply("no", 500)) == ["answer 0"] * 3
    message = {"type": "message", "content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn"}
    assert asked(server, lambda seen: Reply(message), adapter="anthropic") == ["yes"] * 3
    assert len(server.seen) == 9


def test_a_run_with_several_answers_a_row_pays_each_prompt_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{number}"} for number in range(20)])
    with FakeLLMServer() as fake:
        operator = LLMOperator("{{ q }}", model="m", base_url=fake.base_url, n=3, params={"max_tokens": 50})
        pipeline = UnifiedPipeline(
            [operator],
            f"jsonl://{tmp_path / 'in.jsonl'}",
            f"jsonl://{tmp_path / 'out.jsonl'}",
            results_dir=str(tmp_path / "results"),
        )
        report = pipeline.create("a").run()
        calls = fake.calls
    (usage,) = report.nodes[0].usage
    assert (calls, usage["requests"], usage["total_tokens"]) == (20, 20, fake.tokens)
    assert len({row["answer"] for row in lines(tmp_path / "out.jsonl")}) == 60


@pytest.mark.parametrize("skip_calls", [False, True])
def test_a_preview_and_a_plan_see_one_call(server: ChatServer, tmp_path: Path, skip_calls: bool) -> None:
    server.reply = numbered
    observer = Observer(skip_calls=skip_calls)
    cache = str(tmp_path / "c.db")

    def preview(n: int) -> None:
        with contextlib.suppress(CallSkippedError):
            asyncio.run(run_rows(server.operator(n=n, cache=cache), [dict(ROW)]))

    with observing(observer):
        preview(3)
        (call,) = observer.calls
        assert (call.request.choices, len(server.seen)) == (3, 0 if skip_calls else 1)
        if call.answer is not None:
            assert [each.text for each in (call.answer, *call.answer.others)] == ["answer 0", "answer 1", "answer 2"]
            assert call.answer.usage == USAGE
            preview(4)
            one, kept = observer.calls[1:]
            assert one.answer is not None
            assert kept.answer is not None
            assert (one.request.sample, one.answer.is_cached) == (3, False)
            assert (kept.request.choices, kept.answer.is_cached, kept.answer.usage) == (3, True, USAGE)
            assert [each.text for each in (kept.answer, *kept.answer.others)] == ["answer 0", "answer 1", "answer 2"]
