"""How many calls may be in flight: by sustained 429s alone, and by what headers say is left."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import pytest

from llm_datagen.llm import LLMOperator
from llm_datagen.llm.limits import adaptive_concurrency
from llm_datagen.llm.limits import shared as limiter_module
from llm_datagen.llm.limits.adaptive_concurrency import AdaptiveConcurrency
from llm_datagen.llm.limits.header_quota import HeaderQuota
from llm_datagen.llm.limits.headers import rate_limits
from llm_datagen.llm.limits.limiter import Limiter, Limits
from llm_datagen.llm.limits.permit import CallOutcome
from llm_datagen.llm.types import Quota, RateLimits
from llm_datagen.testing import FakeLLMServer, LLMLimits

from ..kit.support import Bench

AWAY = CallOutcome(is_throttled=True)
ANSWERED = CallOutcome(is_answered=True)


def _turned_away(which: AdaptiveConcurrency, in_flight: int, sent_at: float, now: float | None = None) -> bool:
    now = sent_at if now is None else now
    return which.record_429(in_flight=in_flight, sent_at=sent_at, now=now, retry_after=None)


def test_single_429s_and_bursts_of_them_change_nothing() -> None:
    random = Random(1)
    few = AdaptiveConcurrency()
    for second in range(20_000):
        if random.random() < 0.02:
            assert not _turned_away(few, 50, float(second))
        else:
            few.record_answer(1.0)
    burst = AdaptiveConcurrency()
    assert not any(_turned_away(burst, 50, 0.0, now=k / 50) for k in range(50))
    assert few.limit == burst.limit == math.inf


def test_sustained_429s_lower_the_concurrency_to_one_at_last_and_answers_raise_it_until_it_is_none() -> None:
    it = AdaptiveConcurrency()
    it.peak = 10
    falls = []
    for k in range(400):
        if _turned_away(it, min(10, int(min(it.limit, 10))), k / 4):
            falls.append(it.limit)
            assert not _turned_away(it, 10, k / 4 - 0.1, k / 4), "sent before it fell"
    assert falls[:4] == [7, 4, 2, 1]
    assert set(falls[4:]) == {1}
    assert it.room_at(0, 100.0) == 100.75, "the place of a call that was turned away rests"
    assert it.room_at(0, 101.0) == 101.0
    assert it.room_at(1, 101.0) == math.inf
    answers = 0
    while math.isfinite(it.limit):
        before = it.limit
        is_lifted = it.record_answer(0.1)
        answers += 1
        assert it.limit in (before, before + 1) or is_lifted
    assert answers == 3 * sum(range(1, 10))
    assert it.room_at(1000, 0.0) == 0.0


@pytest.mark.slow
@pytest.mark.integration
def test_an_endpoint_that_takes_ten_at_once_is_asked_so_and_more_when_it_takes_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limiter_module, "_limiters", {})
    monkeypatch.setattr(adaptive_concurrency, "SUSTAINED_SECONDS", 0.1)
    monkeypatch.setattr(adaptive_concurrency, "_REST_SECONDS", 0.2)
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(500))

    def answer(messages: object) -> str:
        if server.answered.total() >= 100 and "keeps turning calls away" in bench.log.read_text():
            server.limits = None
        return "yes"

    with FakeLLMServer(answer=answer, latency=0.02, limits=LLMLimits(at_once=10)) as server:
        ask = LLMOperator("{{ q }}", model="m", base_url=server.base_url, retry_wait=0.1, max_retries=8)
        report = bench.pipeline([ask], parallel_size=40).create("p").run()
        assert report.nodes[0].rows_out == server.answered.total() == 500
        assert server.peak > 11, "it climbs back"
    said = [line for line in bench.log_lines() if "at_once" in line]
    assert said[0]["at_once"] <= 0.7 * 40, "of those in flight, which are 40 at most"
    assert "keeps turning calls away (429)" in said[0]["message"]


@pytest.mark.integration
def test_what_is_left_is_spent_and_then_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter_module, "_limiters", {})
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(60))
    with FakeLLMServer(latency=0.005, limits=LLMLimits(requests=15, seconds=0.3)) as server:
        ask = LLMOperator("{{ q }}", model="m", base_url=server.base_url, retry_wait=0.1, max_retries=8)
        assert bench.pipeline([ask], parallel_size=20).create("p").run().nodes[0].rows_out == 60
        assert server.calls < 60 + 25, "only the first calls, which knew of no limit, are turned away"


def test_an_allowance_is_what_the_latest_call_heard_less_what_was_sent_since() -> None:
    it = HeaderQuota()
    assert it.room_at(1000, 0.0) == 0.0
    it.update(Quota(remaining=5, limit=8, reset=10.0), call=3, sent_since=2, now=0.0)
    it.update(Quota(remaining=100, limit=100, reset=10.0), call=2, sent_since=0, now=0.0)
    it.update(Quota(remaining=0, limit=8, reset=86400.0), call=4, sent_since=0, now=0.0)  # a quota, not a limit
    assert it.room_at(3, 1.0) == 1.0
    it.spend(3)
    assert it.room_at(1, 1.0) == 10.0
    assert it.room_at(9, 10.0) == 10.0, "more than there ever is, when all of it is there"
    it.spend(9)
    assert it.room_at(1, 11.0) == math.inf


def test_calls_wait_for_a_reset_and_never_for_an_answer_that_nobody_awaits() -> None:
    now = 0.0
    limiter = Limiter(clock=lambda: now)
    limiter.attach(Limits())
    permit = limiter.enter(0)
    assert permit is not None
    assert not limiter.counts_tokens
    left = RateLimits(
        requests=Quota(remaining=1, limit=2, reset=30.0), tokens=Quota(remaining=900, limit=1000, reset=60.0)
    )
    limiter.leave(permit, CallOutcome(is_answered=True, left=left))
    assert limiter.counts_tokens
    assert limiter.enter(901) is None
    assert limiter.enter(900) is not None
    assert limiter.enter(0) is None
    now = 30.0
    assert limiter.enter(0) is not None
    now = 60.0
    last = limiter.enter(0)
    assert last is not None
    assert limiter.enter(0) is None, "both of the limit are used, and an answer may say more"


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s"}, (59, None, 1.0)),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-reset-requests": "1h6m0.5s17ms",
            },
            (0, 60, 3960.517),
        ),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2.5"}, (0, None, 2.5)),
        (
            {
                "anthropic-ratelimit-requests-remaining": "3",
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-reset": "1970-01-01T00:02:00Z",
            },
            (3, 50, 20.0),
        ),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1970-01-01T00:02:00"}, None),
        ({}, None),
    ],
)
def test_headers_say_what_is_left(headers: dict[str, str], left: tuple[int, int | None, float] | None) -> None:
    for what in ("requests", "tokens"):
        found = rate_limits({name.replace("requests", what): text for name, text in headers.items()}, now=lambda: 100.0)
        if left is None:
            assert found is None
        else:
            assert found is not None
            its = getattr(found, what)
            assert (its.remaining, its.limit) == left[:2]
            assert its.reset == pytest.approx(left[2])
