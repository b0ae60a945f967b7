"""`budget=`: what the server is paid is never more than the cap."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import RunReport, UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator
from llm_datagen.messages import Pause, Unpause

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, lines, write_jsonl
from . import budget_job
from .chat_server import ChatServer
from .till import PRICES, Till

ROWS = 120
ALL = 100_000
"""More tokens than all rows can use."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"question {k:03}, ä 漢"} for k in range(ROWS)])
    return tmp_path


def pipeline(server: ChatServer, budget: Any, **options: Any) -> UnifiedPipeline:
    asking: dict[str, Any] = {"max_retries": 5, "retry_wait": 0.01, "params": {"max_tokens": 20}, **options}
    nodes = [server.operator(budget=budget, output=column, name=column, **asking) for column in ("a", "b")]
    return UnifiedPipeline(nodes, "jsonl://in.jsonl", "jsonl://out.jsonl", streaming=True, parallel_size=25)


def test_spent_is_at_most_the_cap_and_a_run_with_a_raised_one_ends_with_all_rows(
    server: ChatServer, folder: Path
) -> None:
    till = Till(server, faults=0.12)
    report = pipeline(server, {"tokens": 5000}).create("job").run()
    assert report.status == "stopped"
    assert report.reason.startswith("the budget of 5,000 tokens is reached: 4,")
    assert "(set aside: " in report.reason
    assert 2000 < till.tokens <= 5000, "two nodes, 50 calls at once"
    for cap in (5000, 7000):
        assert pipeline(server, {"tokens": cap}).resume("job").run().status == "stopped"
        assert till.tokens <= cap
    report = pipeline(server, {"tokens": ALL}).resume("job").run()
    assert report.status == "completed"
    assert till.tokens <= ALL
    assert len(lines(folder / "out.jsonl")) == ROWS
    used = sum(entry["prompt_tokens"] + entry["completion_tokens"] for entry in report.usage)
    assert used <= till.tokens, "what broke off was paid for, too, and reported to nobody"


@pytest.mark.process
@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.torture)])
def test_spent_is_at_most_the_cap_over_kill_9_in_mid_flight(
    server: ChatServer, folder: Path, kills: int, capsys: pytest.CaptureFixture[str]
) -> None:
    job: Program
    last = 0

    def kill(calls: int) -> None:
        if last and calls >= last:
            os.kill(job.pid, signal.SIGKILL)

    till = Till(server, faults=0.1, seconds=0.02, then=kill)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from {budget_job.__name__} import main"
    cap = 0.011 + 0.004 * kills
    for number in range(kills):
        last = till.calls + 30 // kills
        with Program(["-c", f"{code}; main({server.base_url!r}, {cap})"]) as job:
            # What was in flight when one was killed may have used up what the next had.
            assert job.wait(timeout=60) in ((-signal.SIGKILL,) if number == 0 else (-signal.SIGKILL, 0))
    last = 0
    for cap_now, end in ((cap, f"stopped the budget of ${cap:.4f}"), (1.0, "completed")):
        budget_job.main(server.base_url, cap_now)
        assert capsys.readouterr().out.startswith(end)
        assert till.usd <= cap_now
    assert len(lines(folder / "out.jsonl")) == ROWS


def test_a_call_that_was_refused_costs_nothing_and_one_without_usage_all_that_it_could(
    server: ChatServer, folder: Path
) -> None:
    write_jsonl(folder / "in.jsonl", [{"q": "a"}, {"q": "b"}])

    def run(name: str, **options: Any) -> RunReport:
        ask = server.operator(budget={"tokens": 1000}, params={"max_tokens": 500}, retry_wait=0.001, **options)
        return UnifiedPipeline([ask], "jsonl://in.jsonl", f"jsonl://{name}", on_error="skip").create(name).run()

    server.always("no", status=429)
    assert run("refused", max_retries=2).nodes[0].skipped == 2
    assert len(server.seen) == 6, "there would have been room for one"
    server.always({"choices": [{"message": {"content": "yes"}}]})
    assert run("silent").status == "stopped"
    assert len(server.seen) == 7


def test_calls_that_wait_for_room_are_not_made_after_a_cancel(server: ChatServer, folder: Path) -> None:
    job = pipeline(server, {"tokens": 400}, params={"max_tokens": 20}).create("job")
    Till(server, then=lambda calls: job.cancel("enough"), seconds=0.2)
    report = job.run()
    assert (report.status, report.reason) == ("canceled", "enough")
    assert len(server.seen) <= 3, "what fitted at once"


def test_calls_that_wait_for_room_are_not_made_while_the_run_is_paused(server: ChatServer, folder: Path) -> None:
    """M30: though the answers that were in flight leave room for them."""
    is_asked, may_answer = threading.Event(), threading.Event()

    def hold(calls: int) -> None:
        is_asked.set()
        may_answer.wait(PATIENCE_SECONDS)

    till = Till(server, then=hold)
    job = pipeline(server, {"tokens": 400}).create("job")
    ref = job.start()
    try:
        assert is_asked.wait(PATIENCE_SECONDS)
        ref.ask(Pause(), timeout=PATIENCE_SECONDS)
        sent = till.calls
        may_answer.set()
        time.sleep(0.4)
        assert till.calls == sent
        ref.ask(Unpause(), timeout=PATIENCE_SECONDS)
        report = job.wait(PATIENCE_SECONDS)
    finally:
        may_answer.set()
        ref.stop()
    assert report is not None
    assert report.reason.startswith("the budget of 400 tokens is reached")
    assert sent < till.calls


def test_a_budget_is_of_one_run_and_overwriting_it_forgets_what_was_spent(server: ChatServer, folder: Path) -> None:
    till = Till(server)
    for if_exists in ("error", "overwrite"):
        before = till.tokens
        report = pipeline(server, {"tokens": 1500}).create("job", if_exists=if_exists).run()
        assert report.status == "stopped"
        assert 0 < till.tokens - before <= 1500


def test_what_is_no_budget_is_refused() -> None:
    limited = {"max_tokens": 10}
    for wrong in ({}, 5, {"usd": 0}, {"usd": "x"}, {"eur": 5}, {"tokens": 1.5}, {"tokens": 5, "image_tokens": 0}):
        with pytest.raises(ConfigError, match="budget"):
            LLMOperator("x", model="gpt-4o-mini", params=limited, budget=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give params 'max_tokens'"):
        LLMOperator("x", model="m", budget={"tokens": 5})
    with pytest.raises(ConfigError, match="no price is known of model 'no-such'"):
        LLMOperator("x", model="no-such", params=limited, budget={"usd": 5})
    LLMOperator("x", model="no-such", params=limited, budget={"usd": 5}, prices=PRICES)
    LLMOperator("x", model="gpt-4o-mini", base_url="https://api.openai.com/v1", params=limited, budget={"usd": 5})
