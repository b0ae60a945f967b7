"""Pools: shares by weight, fallback, health, and which endpoint answered."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_datagen import JsonlStream, UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import EndpointRefusedError, LLMCancelledError, LLMOperator, LLMRequestError
from llm_datagen.testing import FakeLLMServer, LLMFaults, cassette

from ..kit import programs
from ..kit.support import eventually, lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, Seen, completion, run_rows

ROWS = 200


def operator(*endpoints: dict[str, Any], **options: Any) -> LLMOperator:
    """Return an operator with a pool."""
    return LLMOperator("{{ q }}", endpoints=endpoints, **{"max_retries": 0, "outage_after": 0, **options})


def rows(count: int = ROWS) -> list[dict[str, Any]]:
    return [{"_i": k, "q": f"q{k}"} for k in range(count)]


def run(pool: LLMOperator, count: int = ROWS, ctx: Context | None = None) -> list[Any]:
    """Ask about rows, one after the other."""
    return asyncio.run(run_rows(pool, rows(count), ctx))


def test_calls_are_spread_by_weight_and_the_usage_says_who_answered() -> None:
    with FakeLLMServer(answer="A") as a, FakeLLMServer(answer="B") as b:
        ctx = Context()
        pool = operator(
            {"model": "big", "base_url": a.base_url, "weight": 3},
            {"model": "small", "base_url": b.base_url, "params": {"temperature": 1}},
            params={"temperature": 0, "max_tokens": 5},
        )
        answers = Counter(row["answer"] for row in run(pool, ctx=ctx))
    assert answers == {"A": 150, "B": 50}
    assert Counter(used["model"] for used in ctx.usage) == {"big": 150, "small": 50}


def test_while_an_endpoint_has_no_room_by_its_limits_the_others_take_over() -> None:
    with FakeLLMServer() as a, FakeLLMServer() as b:
        small = {"model": "m", "base_url": a.base_url, "requests_per_minute": 10, "tokens_per_minute": 50_000}
        pool = operator(small, {"model": "m", "base_url": b.base_url}, params={"max_tokens": 100})
        assert len(run(pool, 60)) == 60
        assert (a.calls, b.calls) == (10, 50)
        pool = operator(
            {**small, "tokens_per_minute": 99},
            {"model": "m", "base_url": b.base_url},
            strategy="ordered",
            params={"max_tokens": 100},
        )
        assert len(run(pool, 5)) == 5
        assert (a.calls, b.calls) == (10, 55), "a minute of the first has not the tokens for one call"


def test_each_endpoint_gets_its_own_model_params_and_key(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of openai")
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("KEY_2", "of two")
    pool = operator(
        {"model": "one", "base_url": server.base_url},
        {"model": "two", "base_url": server.base_url, "api_key_env": "KEY_2", "params": {"seed": 2}},
        {"model": "three"},
        params={"seed": 1, "top_p": 1},
    )
    run(pool, 3)
    sent = {seen.body["model"]: (seen.headers.get("authorization"), seen.body["seed"]) for seen in server.seen}
    assert sent == {"one": (None, 1), "two": ("Bearer of two", 2), "three": ("Bearer of openai", 1)}
    assert all(seen.body["top_p"] == 1 for seen in server.seen)
    monkeypatch.delenv("KEY_2")
    with pytest.raises(ConfigError, match=r"the environment variable KEY_2, api_key_env of .* is not set"):
        run(pool, 1)


def test_a_try_that_fails_goes_to_another_endpoint_at_once() -> None:
    with FakeLLMServer(faults=LLMFaults(server_error=0.3, rate_limit=0.2, reset=0.1)) as a, FakeLLMServer() as b:
        pool = operator({"model": "m", "base_url": a.base_url}, {"model": "m", "base_url": b.base_url})
        assert len(run(pool)) == ROWS  # max_retries is 0: a row that failed once would raise
    assert a.faults_met.total() > 5
    assert a.answered.total() + b.answered.total() >= ROWS


@pytest.mark.slow
def test_the_ordered_pool_falls_back_while_the_first_endpoint_is_down_and_returns_to_it(tmp_path: Path) -> None:
    given = write_jsonl(tmp_path / "in.jsonl", rows(60))

    def give(count: int) -> int:
        with given.open("a") as file:
            file.writelines(json.dumps({"q": "one more"}) + "\n" for _ in range(count))
        return count

    with FakeLLMServer(answer="A", latency=0.01) as a, FakeLLMServer(answer="B", latency=0.01) as b:
        pool = operator(
            {"model": "m", "base_url": a.base_url}, {"model": "m", "base_url": b.base_url}, strategy="ordered"
        )
        streams = (f"jsonl://{given}", f"jsonl://{tmp_path}/out.jsonl")
        settings: dict[str, Any] = {"follow_input": True, "writer_config": {"retry_interval": 0.01}}
        pipeline = UnifiedPipeline(
            [pool], *streams, parallel_size=5, results_dir=str(tmp_path), log_file=None, **settings
        )
        with pipeline.running():
            eventually(lambda: a.answered.total() == 60)
            assert b.calls == 0
            a.outage = True
            count = 60 + give(60)
            eventually(lambda: b.answered.total() >= 60)
            a.outage = False
            while a.answered.total() < 90:  # as soon as a probe finds it there
                count += give(1)
                eventually(lambda count=count: a.answered.total() + b.answered.total() >= count)  # type: ignore[misc]
            JsonlStream(streams[0]).seal()
            pipeline.wait()
    assert len(lines(tmp_path / "out.jsonl")) == count
    assert a.faults_met["outage"] < 40  # no more than what was in flight, and probes


def test_an_endpoint_that_asks_for_a_pause_is_left_alone_that_long(server: ChatServer) -> None:
    with FakeLLMServer() as other:
        server.reply = lambda seen: Reply("busy", 429, headers={"Retry-After": "300"})
        run(operator({"model": "m", "base_url": server.base_url}, {"model": "m", "base_url": other.base_url}))
        assert (len(server.seen), other.calls) == (1, ROWS)


def test_a_call_that_is_turned_away_sends_the_others_elsewhere_only_until_the_endpoint_answers_one(
    server: ChatServer,
) -> None:
    """It may have had no room for that one alone."""
    goes_on = threading.Event()

    def reply(seen: Seen) -> Reply:
        if seen.body["messages"][0]["content"] == "q1":
            return Reply("busy", 429, headers={"Retry-After": "300"})
        assert goes_on.wait(60)
        return Reply(completion("yes"))

    async def ask(pool: LLMOperator) -> list[int]:
        found = []
        await pool.setup()
        held = asyncio.create_task(pool.process_item(rows()[0], Context()))
        await asyncio.to_thread(eventually, lambda: server.seen)
        for row in rows(6)[1:]:
            if row["q"] == "q3":
                goes_on.set()
                await held
            await pool.process_item(row, Context())
            found.append(dear.calls)
        await pool.teardown()
        return found

    server.reply = reply
    with FakeLLMServer() as dear:
        endpoints = [{"model": "m", "base_url": base_url} for base_url in (server.base_url, dear.base_url)]
        assert asyncio.run(ask(operator(*endpoints, strategy="ordered"))) == [1, 2, 2, 2, 2]
    assert [seen.body["messages"][0]["content"] for seen in server.seen] == ["q0", "q1", "q3", "q4", "q5"]


def test_a_call_goes_where_the_limits_have_room() -> None:
    with FakeLLMServer(latency=0.01) as a, FakeLLMServer(latency=0.01) as b:
        limited = {"model": "limited", "base_url": a.base_url, "requests_per_minute": 10, "weight": 5}
        pool = operator(limited, {"model": "limited", "base_url": b.base_url})

        async def ask() -> list[Any]:
            await pool.setup()
            answers = await asyncio.gather(*(pool.process_item(row, Context()) for row in rows(100)))
            await pool.teardown()
            return answers

        assert len(asyncio.run(ask())) == 100
        assert (a.calls, b.calls) == (10, 90)


def test_while_all_limits_are_reached_calls_wait_and_a_cancel_ends_the_wait() -> None:
    with FakeLLMServer() as a, FakeLLMServer() as b:
        endpoints = [
            {"model": "limited too", "base_url": server.base_url, "requests_per_minute": 2} for server in (a, b)
        ]
        pool, ctx = operator(*endpoints), Context()

        async def ask() -> None:
            await pool.setup()
            calls = [asyncio.ensure_future(pool.process_item(row, ctx)) for row in rows(6)]
            while sum(call.done() for call in calls) < 4:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert (a.calls, b.calls) == (2, 2)
            ctx.is_over = True
            results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
            assert [type(result) for result in results].count(LLMCancelledError) == 2
            await pool.teardown()

        asyncio.run(ask())


def test_when_all_endpoints_refuse_the_run_fails_and_with_one_that_does_not_it_goes_on(server: ChatServer) -> None:
    server.always("no", 401)
    refusing = {"model": "m", "base_url": server.base_url}
    with FakeLLMServer() as other:
        ctx = Context()
        assert len(run(operator(refusing, {"model": "m", "base_url": other.base_url}), ctx=ctx)) == ROWS
        assert any("is down: HTTP 401" in line for line in ctx.lines)
    with pytest.raises(EndpointRefusedError, match=r"m at .*; m at "):
        run(operator(refusing, refusing))
    server.always("bad", 400)  # that is the request's fault, wherever it is sent
    with pytest.raises(LLMRequestError, match="HTTP 400"):
        run(operator(refusing, refusing))


def test_an_answer_of_any_endpoint_is_kept_for_all(tmp_path: Path, server: ChatServer) -> None:
    one, two = {"model": "m", "base_url": server.base_url}, {"model": "n", "base_url": server.base_url}
    cache = str(tmp_path / "answers.sqlite")

    def calls(*endpoints: dict[str, Any]) -> int:
        before = len(server.seen)
        run(operator(*endpoints, cache=cache), 4)
        return len(server.seen) - before

    server.always(completion("yes"))
    assert [calls(one), calls(one, {**one, "weight": 5})] == [4, 0]
    assert [calls(one, two), calls(two, one), calls({**two, "params": {"seed": 1}}, one)] == [4, 0, 4]


def test_a_cassette_of_a_pool_is_played_whoever_has_the_turn(tmp_path: Path) -> None:
    with FakeLLMServer(answer="A") as a, FakeLLMServer(answer="B") as b:
        endpoints: list[dict[str, Any]] = [
            {"model": "one", "base_url": a.base_url, "params": {"temperature": 1}},
            {"model": "two", "base_url": b.base_url},
        ]
        with cassette(tmp_path / "tape.jsonl", "once"):
            recorded = run(operator(*endpoints, params={"temperature": 0}), 6)
        calls = a.calls + b.calls
        with cassette(tmp_path / "tape.jsonl", "none"):
            assert run(operator(*reversed(endpoints), params={"temperature": 0}), 6) == recorded
        assert a.calls + b.calls == calls == 6
    assert {row["answer"] for row in recorded} == {"A", "B"}


@pytest.mark.process
def test_a_pool_is_written_in_yaml(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in.jsonl", rows(20))
    with FakeLLMServer(api_key="one") as a, FakeLLMServer() as b:
        endpoints = [
            {"model": "m", "base_url": a.base_url, "api_key_env": "KEY_1", "weight": 1},
            {"model": "m", "base_url": b.base_url, "weight": 1},
        ]
        use = {"use": "llm_datagen.llm:LLMOperator", "with": {"prompt": "{{ q }}", "endpoints": endpoints}}
        file = {"input_uri": "jsonl://in.jsonl", "output_uri": "jsonl://out.jsonl", "operators": [use]}
        (tmp_path / "p.yaml").write_text(yaml.safe_dump(file))
        command = ["-m", "llm_datagen.cli", "run", "p.yaml"]
        programs.run(command, cwd=tmp_path, check=True, env={**os.environ, "KEY_1": "one"})
        assert (a.answered.total(), b.answered.total()) == (10, 10)
    assert len(lines(tmp_path / "out.jsonl")) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give model, or endpoints"),
        ({"endpoints": []}, "endpoints must be a list of endpoints such as {'model': …}, not an empty one"),
        ({"endpoints": [{"model": "m"}], "model": "m"}, "give model or endpoints, not both"),
        ({"endpoints": [{"model": "m"}], "api_key": "k"}, "give api_key or endpoints, not both"),
        ({"endpoints": ["m"]}, "an endpoint must be an Endpoint or a dict"),
        ({"endpoints": [{"base_url": "http://x/v1"}]}, "an endpoint must say 'model'"),
        ({"endpoints": [{"model": "m", "wait": 3}]}, "an endpoint has no setting 'wait'; did you mean 'weight'"),
        ({"endpoints": [{"model": "m", "weight": 0}]}, "weight must be a positive number"),
        ({"endpoints": [{"model": "m", "params": {"n": 2}}]}, "params may not hold 'n'"),
        ({"endpoints": [{"model": "m", "base_url": "ftp://x"}]}, "base_url must start with http"),
        ({"model": "m", "api_key": "k", "api_key_env": "K"}, "give api_key or api_key_env, not both"),
        ({"endpoints": [{"model": "m"}], "strategy": "best"}, "strategy must be one of 'weighted', 'ordered'"),
    ],
)
def test_a_wrong_pool_is_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMOperator("hi", **options)
