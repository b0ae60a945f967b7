"""The fake endpoint: what it answers, what it does wrong, what it counts."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel, Field, TypeAdapter

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMError, LLMOperator
from llm_datagen.testing import FakeLLMServer, Latency, LLMFaults, LLMLimits
from llm_datagen.testing.fake_llm.answers import value_of

from ..llm.chat_server import Context


def ask(server: FakeLLMServer, text: str, **fields: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, trust_env=False, verify=False)


def text_of(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


def outcome(server: FakeLLMServer, text: str) -> str:
    """Say how a call went, as its client sees it."""
    try:
        response = ask(server, text)
    except httpx.ReadError:
        return "reset"
    except httpx.RemoteProtocolError:
        return "truncated"
    if response.status_code != 200:
        return {429: "rate_limit", 500: "server_error"}[response.status_code]
    try:
        reason = response.json()["choices"][0]["finish_reason"]
    except json.JSONDecodeError:
        return "malformed"
    return "cut_off" if reason == "length" else "answered"


class Part(BaseModel):
    kind: Literal["a", "b"]
    weight: float = Field(gt=0, le=1)
    parts: list[Part] = Field(max_length=2)


class Whole(BaseModel):
    name: str = Field(min_length=30, max_length=32)
    stars: int = Field(ge=1, le=5)
    even: int = Field(gt=0, lt=6, multiple_of=2)
    parts: list[Part] = Field(min_length=2)
    note: str | None
    is_good: bool


def test_answers_are_texts_functions_of_the_messages_or_valid_against_the_schema_of_the_request() -> None:
    with FakeLLMServer(answer="yes") as server:
        assert text_of(ask(server, "?")) == "yes"
    with FakeLLMServer(answer=lambda messages: {"said": messages[-1]["content"]}) as server:
        response = ask(server, "a b", n=2)
        assert [json.loads(choice["message"]["content"]) for choice in response.json()["choices"]] == [
            {"said": "a b"}
        ] * 2
        usage = response.json()["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": Whole.model_json_schema()}}
    with FakeLLMServer() as server:
        first = text_of(ask(server, "x", response_format=schema))
        Whole.model_validate_json(first)
        assert text_of(ask(server, "x", response_format=schema)) == first
        assert text_of(ask(server, "y", response_format=schema)) != first
        refused = ask(server, "z", response_format={"json_schema": {"schema": {"type": "string", "pattern": "a"}}})
        assert refused.status_code == 400
        assert "'pattern'" in refused.text


def test_what_is_made_by_a_schema_is_valid_and_recursive_schemas_end() -> None:
    adapter = TypeAdapter(Whole)
    made = [value_of(Whole.model_json_schema(), Random(number)) for number in range(200)]
    for value in made:
        adapter.validate_python(value, strict=True)
    assert len({str(value) for value in made}) == 200
    with pytest.raises(ValueError, match="no end"):
        value_of({"$ref": "#"}, Random(0))


@pytest.mark.slow
def test_faults_depend_on_the_seed_and_the_request_and_its_attempt_alone() -> None:
    shares = {
        "rate_limit": 0.15,
        "server_error": 0.15,
        "reset": 0.1,
        "truncated": 0.1,
        "malformed": 0.1,
        "cut_off": 0.1,
    }
    texts = [f"q{number % 30}" for number in range(60)]

    def met(seed: int, order: list[str], clients: int) -> tuple[Counter[tuple[str, str]], FakeLLMServer]:
        with (
            FakeLLMServer(faults=LLMFaults(**shares), seed=seed) as server,
            ThreadPoolExecutor(clients) as pool,
        ):
            return Counter(zip(order, pool.map(lambda text: outcome(server, text), order), strict=True)), server

    one, server = met(1, texts, 1)
    assert met(1, texts[::-1], 4)[0] == one
    assert met(2, texts, 4)[0] != one
    kinds = Counter(kind for _, kind in one.elements())
    assert set(kinds) == {*shares, "answered"}
    assert server.faults_met == Counter({kind: kinds[kind] for kind in shares})
    assert server.calls == 60
    assert server.prompts == Counter(texts)
    assert server.answered.total() == kinds["answered"] + kinds["cut_off"]


@pytest.mark.parametrize(
    ("share", "streams", "message"),
    [
        ("truncated", True, "the connection failed"),
        ("malformed", True, "an event cannot be read"),
        ("late_error", True, "something broke"),
        ("late_error", False, "something broke"),
        ("stalled", True, "no further token within"),
        ("stalled", False, "no answer within"),
        ("cut_off", True, "was cut off"),
    ],
)
def test_an_answer_that_is_streamed_goes_wrong_in_every_way(share: str, streams: bool, message: str) -> None:
    async def ask_once() -> None:
        operator = LLMOperator(
            "Hi",
            model="m",
            base_url=server.base_url,
            stream={"token_timeout": 0.1} if streams else False,
            timeout=60 if streams else 0.1,
            max_retries=0,
            outage_after=0,
        )
        await operator.setup()
        try:
            await operator.process_item({}, Context())
        finally:
            await operator.teardown()

    with FakeLLMServer(faults=LLMFaults(**{share: 1.0})) as server:
        with pytest.raises(LLMError, match=message):
            asyncio.run(ask_once())
        assert set(server.faults_met) == {share}
        assert server.answered.total() == (share == "cut_off")


def test_one_call_more_than_the_limits_gets_429_until_they_are_lifted() -> None:
    with FakeLLMServer(latency=0.2, limits=LLMLimits(at_once=2)) as server, ThreadPoolExecutor(5) as threads:
        statuses = Counter(r.status_code for r in threads.map(lambda k: ask(server, f"{k}"), range(5)))
        assert statuses == {200: 2, 429: 3}
        assert (server.peak, server.faults_met["limits"]) == (2, 3)
        server.limits = LLMLimits(requests=2, seconds=100)
        seen = [ask(server, "x").headers for _ in range(3)]
        assert [headers["x-ratelimit-remaining-requests"] for headers in seen] == ["1", "0", "0"]
        assert {headers["x-ratelimit-limit-requests"] for headers in seen} == {"2"}
        assert 90_000 < float(seen[-1]["x-ratelimit-reset-requests"].removesuffix("ms")) <= 100_000
        server.limits = None
        assert ask(server, "x").status_code == 200
    for wrong in ({"at_once": 0}, {"requests": 1.5}, {"seconds": 0}):
        with pytest.raises(ConfigError):
            LLMLimits(**wrong)


def test_an_outage_a_wrong_key_and_a_429_say_so() -> None:
    with FakeLLMServer(faults=LLMFaults(rate_limit=1.0, retry_after=2)) as server:
        assert ask(server, "x").headers["retry-after"] == "2"
        server.outage = True
        assert ask(server, "x").status_code == 503
    with FakeLLMServer(api_key="k") as server:
        assert ask(server, "x").status_code == 401
        url, header = f"{server.base_url}/chat/completions", {"Authorization": "Bearer k"}
        assert httpx.post(url, json={"messages": [{"content": "x"}]}, headers=header).status_code == 200
        assert httpx.post(url, content="{", headers=header).status_code == 400
        assert server.faults_met == {"api_key": 1}


def test_a_client_that_leaves_is_counted_and_latencies_are_kept_at_once() -> None:
    everybody = threading.Barrier(8)
    with FakeLLMServer(latency=Latency(seconds=0.2)) as server, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(lambda: (everybody.wait(10), ask(server, "x"))) for _ in range(8)]
        assert all(call.result()[1].status_code == 200 for call in calls)
        assert 1 < server.peak <= 8
        assert server.stats()["window_s"] >= 0.2
    with FakeLLMServer(latency=60) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.base_url}/chat/completions", json={"messages": [{"content": "x"}]}, timeout=0.1)
        ask_stats = httpx.get(server.base_url.removesuffix("/v1") + "/stats")
        assert ask_stats.json()["answered"] == 0
        for _ in range(100):
            if server.abandoned:
                break
            threading.Event().wait(0.02)
        assert server.abandoned == 1


def test_a_server_comes_back_under_its_url_and_wrong_arguments_are_refused() -> None:
    with FakeLLMServer() as server:
        port = int(server.base_url.split(":")[2].removesuffix("/v1"))
        with pytest.raises(OSError, match="in use"), FakeLLMServer(port=port):
            pass
    with FakeLLMServer(port=port) as server:
        assert ask(server, "x").status_code == 200
    with pytest.raises(ConfigError, match="above 1 together"):
        LLMFaults(reset=0.6, malformed=0.6)
    with pytest.raises(ConfigError, match="slow_share"):
        Latency(slow_share=2)


@pytest.mark.slow
@pytest.mark.process
def test_a_server_in_a_process_of_its_own_serves_a_pipeline(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_datagen.testing.server", "--answer", "yes", "--latency", "0.001"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        root = base_url.removesuffix("/v1")
        (tmp_path / "in.jsonl").write_text("".join(f'{{"q": {number}}}\n' for number in range(20)), encoding="utf-8")
        pipeline = UnifiedPipeline(
            [LLMOperator("{{ q }}", model="m", base_url=base_url)],
            f"jsonl://{tmp_path}/in.jsonl",
            f"jsonl://{tmp_path}/out.jsonl",
            parallel_size=5,
            results_dir=str(tmp_path / "results"),
        )
        pipeline.create("a").run()
        stats = httpx.get(f"{root}/stats").json()
        assert httpx.put(f"{root}/outage").status_code == 200
        assert httpx.post(f"{base_url}/chat/completions", json={"messages": [{"content": "x"}]}).status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert (stats["calls"], stats["answered"], stats["answered_twice"]) == (20, 20, 0)
    assert stats["peak"] <= 5
