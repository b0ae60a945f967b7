"""Limits of an endpoint, through whole pipelines. The minute is half a second long here."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pykka
import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, LLMRequestError
from llm_datagen.llm.limits import shared as limiter_module
from llm_datagen.llm.limits.layer import LimitLayer
from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.token_estimate import TokenEstimate
from llm_datagen.llm.types import ChatAnswer, ChatRequest
from llm_datagen.messages import Cancel, Pause, Unpause
from llm_datagen.testing import FakeLLMServer, Latency, LLMLimits

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines
from .chat_server import ChatServer, Context, Reply, Seen, completion, run_rows

MINUTE = 0.5


class Quick:
    """Makes calls that take a millisecond."""

    now = most = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.001)
        finally:
            self.now -= 1
        return ChatAnswer(text="yes")


@pytest.fixture(autouse=True)
def _minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter_module, "WINDOW_SECONDS", MINUTE)
    monkeypatch.setattr(limiter_module, "_limiters", {})


def test_two_pipelines_at_once_share_the_limit_of_their_endpoint(tmp_path: Path) -> None:
    booked: list[float] = []

    def answer(messages: Sequence[Mapping[str, Any]]) -> str:
        booked.append(time.monotonic())
        return "yes"

    benches = [Bench(tmp_path / name) for name in ("a", "b")]
    latency = Latency(seconds=0.02, slow_share=0.2, slow_seconds=0.08)
    limits = LLMLimits(requests=20, seconds=MINUTE, headers=False)  # by the moments at which calls come in
    with FakeLLMServer(answer=answer, latency=latency, limits=limits) as server:

        def run(bench: Bench) -> None:
            operator = LLMOperator("{{ q }}", model="m", base_url=server.base_url, requests_per_minute=20)
            bench.pipeline([operator], parallel_size=30).create("p").run()

        runs = []
        for bench in benches:
            bench.folder.mkdir()
            bench.give({"q": f"{bench.folder.name}{k}"} for k in range(30))
            runs.append(threading.Thread(target=run, args=(bench,)))
            runs[-1].start()
        for each in runs:
            each.join()
        assert (server.calls, server.faults_met.total()) == (60, 0)
    asked = [row["q"] for bench in benches for row in lines(bench.output)]
    assert sorted(asked) == sorted(f"{name}{k}" for name in "ab" for k in range(30))
    assert max(sum(1 for when in booked if start <= when < start + MINUTE) for start in booked) == 20
    assert max(booked) - min(booked) >= 2 * MINUTE


def test_a_cancel_ends_waits_for_a_limit_and_for_a_retry_at_once_and_a_resume_does_those_rows(
    tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_module, "WINDOW_SECONDS", 600.0)
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(10))
    busy = Reply("busy", 429, headers={"Retry-After": "500"})
    server.reply = lambda seen: busy if int(seen.body["messages"][-1]["content"]) % 2 else Reply(completion("yes"))

    def pipeline() -> Any:
        operator = server.operator(requests_per_minute=6, max_retries=3)
        return bench.pipeline([operator], parallel_size=9, on_error="dead_letter")

    job = pipeline().create("p")

    def cancel() -> None:
        eventually(lambda: bench.log.exists() and "calls wait" in bench.log.read_text())
        job.cancel()

    threading.Thread(target=cancel).start()
    report = job.run()  # not in 500 seconds: a test may not take as long
    assert report.status == "canceled"
    answered = sum(int(seen.body["messages"][-1]["content"]) % 2 == 0 for seen in server.seen)
    assert (report.nodes[0].rows_out, report.nodes[0].dead_letters) == (answered, 0)
    said = [line for line in bench.log_lines() if line["event"] == "[Operator]" and "calls wait" in line["message"]]
    assert 500 < said[0]["seconds"] <= 600
    assert len(said) == 1
    assert len(server.seen) == 6
    limiter_module._limiters.clear()  # else the resume would wait for the minute that this one has filled
    server.reply = lambda seen: Reply(completion("yes"))
    monkeypatch.setattr(limiter_module, "WINDOW_SECONDS", 0.05)
    assert pipeline().resume("p").run().nodes[0].rows_out == 10
    assert [row["q"] for row in sorted(lines(bench.output), key=lambda row: row["q"])] == list(range(10))
    assert len(server.seen) == 6 + 10 - answered


@pytest.mark.process
def test_rows_that_wait_for_a_limit_survive_kill_9(tmp_path: Path, server: ChatServer) -> None:
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(8))
    script = (
        "from llm_datagen import UnifiedPipeline\n"
        "from llm_datagen.llm import LLMOperator\n"
        f"ask = LLMOperator('{{{{ q }}}}', model='tiny', base_url={server.base_url!r}, requests_per_minute=3)\n"
        "ask.version = 'an instrument'\n"
        f"UnifiedPipeline([ask], 'jsonl://{bench.input}', 'jsonl://{bench.output}', parallel_size=8, "
        f"results_dir={str(bench.results)!r}, base_path={str(tmp_path / 'between')!r})"
        ".create('p').run()\n"
    )
    with Program(["-c", script], cwd=tmp_path) as process:
        eventually(lambda: bench.output.exists() and bench.output.read_bytes().count(b"\n") == 3)
        process.kill()
    report = bench.pipeline([server.operator(requests_per_minute=8)], parallel_size=8).resume("p").run()
    assert report.nodes[0].rows_out == 8
    assert sorted(row["q"] for row in lines(bench.output)) == list(range(8))
    assert len(server.seen) <= 8 + 3


def test_calls_that_are_given_up_free_their_place(server: ChatServer) -> None:
    """Tasks are cancelled where they stand, as when `grace` is over: in the queue and in flight."""
    inner = Quick()
    its = Limiter(window=0.0)
    layer = LimitLayer(inner, endpoint="e", api_key=None, model="m", limits=Limits(requests_per_minute=2), limiter=its)
    random = Random(7)

    async def run() -> None:
        await layer.open()
        request = ChatRequest(messages=[], params={}, model="m", ctx=Context())
        for _ in range(20):
            tasks = [asyncio.create_task(layer.complete(request)) for _ in range(12)]
            for _ in range(random.randrange(4)):
                await asyncio.sleep(0.001)
            for task in random.sample(tasks, 8):
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(result, ChatAnswer) for result in results) >= 4
            assert inner.most <= 2
        await layer.close()

    asyncio.run(run())
    assert its.is_idle()


def test_while_a_run_is_paused_no_row_that_waits_for_a_limit_or_a_retry_is_asked_for(
    tmp_path: Path, server: ChatServer
) -> None:
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(8))
    is_paused = threading.Event()

    def reply(seen: Seen) -> Reply:
        if len(server.seen) > 4:
            return Reply(completion("yes"))
        is_paused.wait(PATIENCE_SECONDS)
        return Reply("busy", 429, headers={"Retry-After": "0.1"})

    server.reply = reply
    ask = server.operator(requests_per_minute=4, max_retries=3, retry_wait=0.01)
    pipeline = bench.pipeline([ask], parallel_size=8).create("p")
    ref = pipeline.start()
    try:
        eventually(lambda: len(server.seen) == 4)
        ref.ask(Pause(), timeout=30)
        is_paused.set()
        time.sleep(MINUTE + 0.3)  # the limit has room, and the pauses before another try are over
        assert len(server.seen) == 4
        ref.ask(Unpause(), timeout=30)
        report = pipeline.wait(60)
    finally:
        is_paused.set()
        with contextlib.suppress(pykka.ActorDeadError):
            ref.tell(Cancel("the test is over"))
    assert report is not None
    assert report.nodes[0].rows_out == 8


def test_a_call_that_needs_more_tokens_than_a_minute_has_is_an_error_and_one_that_may_need_them_is_sent(
    server: ChatServer,
) -> None:
    operator = server.operator(tokens_per_minute=150, params={"max_tokens": 100})
    with pytest.raises(
        LLMRequestError, match=r"needs 225 tokens or more; tiny at .* may use 150 per minute: lower max_"
    ):
        asyncio.run(run_rows(operator, [{"q": "x" * 1000}]))
    assert not server.seen
    operator = server.operator(tokens_per_minute=150, params={"max_tokens": 100})
    assert len(asyncio.run(run_rows(operator, [{"q": "x" * 300}, {"q": "y"}]))) == 2


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
def test_a_limit_is_a_whole_number(name: str, server: ChatServer) -> None:
    wrongs: list[Any] = [0, -1, 1.5, "60", True]
    for wrong in wrongs:
        with pytest.raises(ConfigError, match=f"{name} must be a whole number of at least 1"):
            server.operator(**{name: wrong})


def test_the_tokens_of_a_call_are_estimated_from_above_and_learned_from_answers() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:" + "A" * 100_000}}
    content = [{"type": "text", "text": "été" * 100}, image]
    request = ChatRequest(messages=[{"role": "user", "content": content}], params={"max_tokens": 50}, model="m")
    estimate = TokenEstimate()
    size = 500 + 2000 + 32
    assert estimate.most(request) == size + 50
    usage = {"prompt_tokens": size // 4, "completion_tokens": 40}
    for _ in range(10):
        estimate.learn(request, ChatAnswer(text="", usage=usage))
    assert size // 4 + 50 < estimate.most(request) < size // 3 + 50
    unlimited = ChatRequest(messages=request.messages, params={}, model="m")
    assert estimate.most(unlimited) == estimate.most(request)
