"""The grants service with real processes, which are killed: the endpoint's own account is within limit and budget."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import Budget, LLMOperator
from llm_datagen.llm.cost import shared_spend
from llm_datagen.llm.errors import GrantsError
from llm_datagen.llm.grants.environment import (
    GRANTS_VARIABLE,
    SHARE_VARIABLE,
    TOKEN_VARIABLE,
    Share,
    fixed_share,
    service_address,
)
from llm_datagen.llm.grants.service import GrantService, service_for
from llm_datagen.llm.limits import shared
from llm_datagen.testing import FakeLLMServer, Latency, LLMLimits

from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, write_jsonl
from . import grants_jobs
from .chat_server import ChatServer, Context, run_rows
from .grants_jobs import WINDOW, work
from .till import Till

ROWS = 24


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (GRANTS_VARIABLE, TOKEN_VARIABLE, SHARE_VARIABLE, "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(call: str, folder: Path, environment: dict[str, str], **options: Any) -> Program:
    """Return a process that calls a function of this module."""
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from {grants_jobs.__name__} import *; {call}"
    return Program(["-c", code], cwd=folder, env=environment, **options)


class ServiceProgram:
    """A service in a process of its own, which may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program: Program | None = None
        self.start()
        said = json.loads((folder / "grants" / "grants.json").read_text())
        self.environment = {
            **os.environ,
            GRANTS_VARIABLE: f"http://127.0.0.1:{said['port']}",
            TOKEN_VARIABLE: said["token"],
        }

    def start(self) -> None:
        self._program = program("serve('grants')", self._folder, dict(os.environ), stdout=subprocess.PIPE)
        assert self._program.stdout is not None
        assert self._program.stdout.readline() == "ready\n"

    def kill(self) -> None:
        assert self._program is not None
        self._program.kill()
        self._program.__exit__()
        self._program = None

    def close(self) -> None:
        if self._program is not None:
            self.kill()


@pytest.fixture
def service(folder: Path) -> Iterator[ServiceProgram]:
    started = ServiceProgram(folder)
    yield started
    started.close()


@pytest.mark.slow
@pytest.mark.process
def test_processes_and_the_service_are_killed_and_no_minute_of_the_endpoint_holds_more_than_the_limit(
    folder: Path, service: ServiceProgram
) -> None:
    names = [f"shard{number}" for number in range(4)]
    for number, name in enumerate(names):
        write_jsonl(folder / f"{name}.jsonl", [{"q": f"{name} {k}"} for k in range(ROWS * (number + 1) // 3)])
    latency = Latency(seconds=0.02, slow_share=0.2, slow_seconds=0.2)
    limits = LLMLimits(requests=40, seconds=WINDOW, headers=False)  # one more is turned away, and counted
    with FakeLLMServer(latency=latency, limits=limits) as server, ExitStack() as stack:

        def start(name: str) -> Program:
            call = f"work({name!r}, {server.base_url!r}, {{'requests_per_minute': 40}})"
            return stack.enter_context(program(call, folder, service.environment, stdout=subprocess.PIPE))

        running = {name: start(name) for name in names}
        eventually(lambda: server.calls >= 20)
        running["shard3"].kill()
        running["shard3"] = start("shard3")
        eventually(lambda: server.calls >= 50)
        service.kill()
        time.sleep(0.3)
        service.start()
        for each in running.values():
            assert each.communicate(PATIENCE_SECONDS)[0] == "completed \n"
        assert server.faults_met.total() == 0
        assert server.answered.total() >= sum(ROWS * (number + 1) // 3 for number in range(4))
    for name in names:
        assert len(lines(folder / f"{name}.out.jsonl")) == len(lines(folder / f"{name}.jsonl"))


SHARED = {"limit": {"requests_per_minute": 100}, "budget": {"budget": {"tokens": 10_000}, "params": {"max_tokens": 5}}}


def away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> GrantService:
    """Return a service that is named by the environment, and not there."""
    service = GrantService(folder / "grants", window=1.0)
    service.start()
    for name, value in service.environment().items():
        monkeypatch.setenv(name, value)
    service.stop()
    return service


@pytest.mark.parametrize("what", SHARED)
def test_calls_wait_while_the_service_is_away_and_say_so_and_no_row_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    service = away(tmp_path, monkeypatch)
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(5))
    with FakeLLMServer(answer="yes") as server:
        ask = LLMOperator("{{ q }}", model="m", base_url=server.base_url, **SHARED[what])  # type: ignore[arg-type]
        job = bench.pipeline([ask], parallel_size=5).create("p")

        def come_back() -> None:
            eventually(lambda: bench.log.exists() and "waits for the grants service" in bench.log.read_text())
            assert server.calls == 0
            service.start()

        thread = threading.Thread(target=come_back)
        thread.start()
        report = job.run()
        thread.join()
        assert (report.status, report.nodes[0].rows_out, server.calls) == ("completed", 5, 5)
    assert f"waits for the grants service at {service.url}: " in bench.log.read_text()
    assert service.token.get_secret_value() not in bench.log.read_text()
    service.stop()


@pytest.mark.parametrize("what", SHARED)
def test_a_cancel_ends_a_wait_for_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    away(tmp_path, monkeypatch)
    monkeypatch.setattr(shared_spend, "_LEAVE_SECONDS", 0.1)
    bench = Bench(tmp_path)
    bench.give({"q": k} for k in range(5))
    with FakeLLMServer(answer="yes") as server:
        ask = LLMOperator("{{ q }}", model="m", base_url=server.base_url, **SHARED[what])  # type: ignore[arg-type]
        job = bench.pipeline([ask], parallel_size=5).create("p")

        def cancel() -> None:
            eventually(lambda: bench.log.exists() and "waits for the grants service" in bench.log.read_text())
            job.cancel("enough")

        thread = threading.Thread(target=cancel)
        thread.start()
        report = job.run()
        thread.join()
        assert (report.status, report.reason, report.nodes[0].rows_out, server.calls) == ("canceled", "enough", 0, 0)
        assert report.nodes[0].dead_letters == 0


@pytest.mark.process
def test_the_service_as_a_process_prints_what_a_shell_needs(tmp_path: Path) -> None:
    with Program(["-m", "llm_datagen.llm.grants", tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        token = json.loads((tmp_path / "grants" / "grants.json").read_text())["token"]
        assert said[0].startswith(f"export {GRANTS_VARIABLE}=http://127.0.0.1:")
        assert said[1] == f"export {TOKEN_VARIABLE}={token}\n"
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_service_answers_nobody_without_its_token_and_a_run_with_a_wrong_one_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ChatServer
) -> None:
    with GrantService(tmp_path) as service:
        assert service.url.startswith("http://127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{service.url}/v1/exchange", b"{}")
        monkeypatch.setenv(GRANTS_VARIABLE, service.url.replace("://", "://any:a-wrong-token@"))
        with pytest.raises(GrantsError, match=r"grants service at http://127.0.0.1:\d+ refuses .* HTTP 401") as caught:
            asyncio.run(run_rows(server.operator(requests_per_minute=10), [{"q": "x"}]))
        assert "a-wrong-token" not in str(caught.value)
        assert server.seen == []
        assert (tmp_path / "grants.json").stat().st_mode & 0o777 == 0o600


def test_one_service_has_a_folder_and_the_next_has_its_address_and_what_it_granted(tmp_path: Path) -> None:
    with service_for(tmp_path) as first:
        with pytest.raises(GrantsError, match="another grants service serves"):
            GrantService(tmp_path / "grants").start()
        url, token = first.url, first.token
    with service_for(tmp_path) as again:
        assert (again.url, again.token) == (url, token)
    file = tmp_path / "grants" / "grants.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"format":1', b'"format":2'))
    with pytest.raises(GrantsError, match=r"grants\.jsonl is damaged"):
        service_for(tmp_path)


def test_what_the_environment_says_is_checked_and_no_token_is_shown() -> None:
    found = service_address({GRANTS_VARIABLE: "http://any:secret-token@host:8000/"})
    assert found is not None
    assert (found.url, found.token.get_secret_value()) == ("http://host:8000", "secret-token")
    assert service_address({}) is None
    for wrong, what in (
        ({GRANTS_VARIABLE: "host:8000"}, "must be the URL"),
        ({GRANTS_VARIABLE: "http://host:8000"}, "must be the token"),
        ({GRANTS_VARIABLE: "http://host:x/", TOKEN_VARIABLE: "secret-token"}, "must be the URL"),
        ({GRANTS_VARIABLE: "http://host", TOKEN_VARIABLE: "secret-token", SHARE_VARIABLE: "0/2"}, "not both"),
    ):
        with pytest.raises(ConfigError, match=what) as caught:
            service_address(wrong)
        assert "secret-token" not in str(caught.value)
    for wrong_share in ("3", "3/3", "-1/3", "1/0", "a/b"):
        with pytest.raises(ConfigError, match=SHARE_VARIABLE):
            fixed_share({SHARE_VARIABLE: wrong_share})


def test_fixed_shares_together_are_the_whole_and_a_share_of_nothing_is_refused() -> None:
    for total in (16, 17, 31, 1000, 10**13 + 7):
        assert sum(Share(number, 16).of("x", total) for number in range(16)) == total
    with pytest.raises(ConfigError, match=r"tokens_per_minute is too small for LLM_DATAGEN_SHARE=0/16"):
        Share(0, 16).of("tokens_per_minute", 15)


def test_a_fixed_share_is_said_in_the_log_and_kept(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARE_VARIABLE, "1/4")
    operator = server.operator(requests_per_minute=8)
    ctx: Any = Context()

    async def ask() -> int:
        await operator.setup()
        calls = [asyncio.ensure_future(operator.process_item({"q": k}, ctx)) for k in range(3)]
        await asyncio.sleep(0.3)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await operator.teardown()
        return len(server.seen)

    server.always({"choices": [{"message": {"content": "yes"}}]})
    assert asyncio.run(ask()) == 2
    assert sum("this process has the share 1/4 of them, fixed" in line for line in ctx.lines) == 1


@pytest.mark.slow
@pytest.mark.process
def test_processes_and_the_service_are_killed_and_the_endpoint_is_paid_at_most_the_budget(
    folder: Path,
    service: ServiceProgram,
    server: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shared, "WINDOW_SECONDS", WINDOW)
    names = [f"shard{number}" for number in range(3)]
    for number, name in enumerate(names):
        write_jsonl(folder / f"{name}.jsonl", [{"q": f"{name} {k:03}"} for k in range(ROWS * (number + 1) // 2)])
    till = Till(server, faults=0.1, seconds=0.03)
    cap = 0.002

    options = {"budget": {"usd": cap}, "params": {"max_tokens": 20}}

    def start(stack: ExitStack, name: str) -> Program:
        call = f"work({name!r}, {server.base_url!r}, {options})"
        return stack.enter_context(program(call, folder, service.environment, stdout=subprocess.PIPE))

    with ExitStack() as stack:
        running = {name: start(stack, name) for name in names}
        eventually(lambda: till.calls >= 10)
        running["shard2"].kill()
        running["shard2"] = start(stack, "shard2")
        eventually(lambda: till.calls >= 30 or any(each.poll() is not None for each in running.values()))
        service.kill()
        time.sleep(0.3)
        service.start()
        ends = {name: each.communicate(PATIENCE_SECONDS)[0] for name, each in running.items()}
        assert till.usd <= cap
        assert any(end.startswith("stopped the budget of $0.002") for end in ends.values()), ends
        assert all(end.startswith(("stopped the budget of $0.002", "completed")) for end in ends.values()), ends
    before = till.usd
    for name in (GRANTS_VARIABLE, TOKEN_VARIABLE):
        monkeypatch.setenv(name, service.environment[name])
    for name in names:
        work(name, server.base_url, {**options, "budget": {"usd": 1.0}})
    assert capsys.readouterr().out == "completed \n" * 3
    assert before < till.usd <= 1.0
    for name in names:
        assert len(lines(folder / f"{name}.out.jsonl")) == len(lines(folder / f"{name}.jsonl"))


def test_a_shared_budget_that_is_used_up_ends_the_run_and_says_what_all_have_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ChatServer
) -> None:
    till = Till(server)
    with GrantService(tmp_path / "grants") as service:
        for name, value in service.environment().items():
            monkeypatch.setenv(name, value)

        def report(name: str) -> Any:
            bench = Bench(tmp_path / name)
            bench.folder.mkdir()
            bench.give({"q": f"question {k}"} for k in range(60))
            ask = server.operator(budget={"tokens": 700}, params={"max_tokens": 20}, retry_wait=0.01)
            return bench.pipeline([ask], parallel_size=10).create(name).run()

        first, second = report("a"), report("b")
        assert first.status == second.status == "stopped"
        assert second.reason.startswith("the budget of 700 tokens is reached: 0 tokens spent (all processes together: ")
        assert till.tokens <= 700
        (state,) = (tmp_path / "a").rglob("budget.jsonl")
        assert b'"format":3' in state.read_bytes()


def test_a_fixed_share_of_a_budget_is_in_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(usd=1.0, tokens=1001)
    parts = [budget.share(Share(number, 16)) for number in range(16)]
    assert sum(part.picodollars or 0 for part in parts) == 10**12
    assert sum(part.tokens or 0 for part in parts) == 1001
