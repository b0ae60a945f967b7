"""Outages: an endpoint that answers nothing but errors pauses the run, and loses no row (M24)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_datagen import JsonlStream, NodeFailedError, UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import EndpointRefusedError, LLMCancelledError, LLMOperator, OutageError
from llm_datagen.llm.limits import shared

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, eventually, lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, Seen, completion, run_rows

PROGRAM = ["-m", "llm_datagen.cli"]
ROWS = 300


@contextmanager
def served(port: int = 0) -> Iterator[str]:
    """Run a server in a process of its own while a block runs, which gets its base URL; then end it."""
    command = ["-m", "llm_datagen.testing.server", "--port", str(port), "--latency", "0.01"]
    with Program(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def committed(output: Path) -> int:
    """Return the rows that are in the file."""
    return output.read_bytes().count(b"\n") if output.exists() else 0


@contextmanager
def run_of(folder: Path, base_url: str, *, on_error: str, outage_after: float) -> Iterator[Program]:
    """Run a pipeline by the command line."""
    options = {"prompt": "{{ q }}", "model": "m", "base_url": base_url, "max_retries": 1, "retry_wait": 0.01}
    operator = {"use": "llm_datagen.llm:LLMOperator", "with": {**options, "outage_after": outage_after}}
    image = {
        "input_uri": "jsonl://in.jsonl",
        "follow_input": True,  # the run cannot be over before `give_rest`
        "output_uri": "jsonl://out.jsonl",
        "pipeline_id": "job",
        "operators": [operator],
        "parallel_size": 8,
        "on_error": on_error,
    }
    (folder / "p.yaml").write_text(yaml.safe_dump(image))
    write_jsonl(folder / "in.jsonl", [{"q": f"q{k}"} for k in range(ROWS // 3)])
    command = [*PROGRAM, "run", "p.yaml"]
    with Program(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def give_rest(folder: Path) -> None:
    """Write the other rows of the input, and seal it."""
    with (folder / "in.jsonl").open("a") as file:
        file.writelines(json.dumps({"q": f"q{k}"}) + "\n" for k in range(ROWS // 3, ROWS))
    JsonlStream(f"jsonl://{folder}/in.jsonl").seal()


def assert_whole(folder: Path) -> None:
    """Make sure that every row is there, once, and that none has failed."""
    assert sorted(row["q"] for row in lines(folder / "out.jsonl")) == sorted(f"q{k}" for k in range(ROWS))
    assert all(row["answer"] for row in lines(folder / "out.jsonl"))
    assert not (folder / "out.jsonl.errors.jsonl").exists()
    seal = json.loads((folder / "out.jsonl.done").read_text())
    assert seal["rows"] == ROWS


def pipeline_in(folder: Path, operator: LLMOperator, **options: Any) -> UnifiedPipeline:
    """Return a pipeline of one node."""
    streams = (f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl")
    return UnifiedPipeline([operator], *streams, results_dir=str(folder), log_file=None, **options)


def port_of(base_url: str) -> int:
    return int(base_url.rsplit(":", 1)[1].split("/", maxsplit=1)[0])


@pytest.mark.slow
@pytest.mark.process
def test_a_total_outage_stops_the_run_without_a_row_lost_and_a_resume_finishes(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with ExitStack() as up:
        base_url = up.enter_context(served())
        with run_of(tmp_path, base_url, on_error="skip", outage_after=0.5) as process:
            eventually(lambda: committed(output) >= ROWS / 5)
            up.close()
            give_rest(tmp_path)
            said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "OutageError: nothing but errors for 0.5 s (outage_after): m at http://127.0.0.1" in said.replace("\n", " ")
    assert "0 failed" in said
    assert "--on-error" not in said, "no row is to blame"
    assert not (tmp_path / "out.jsonl.done").exists()
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()
    assert committed(output) < ROWS
    with served(port_of(base_url)):
        programs.run([*PROGRAM, "resume", "job"], cwd=tmp_path, check=True)
    assert_whole(tmp_path)


@pytest.mark.process
def test_a_run_waits_for_a_server_that_comes_back_and_finishes_by_itself(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with ExitStack() as up:
        base_url = up.enter_context(served())
        with run_of(tmp_path, base_url, on_error="dead_letter", outage_after=60) as process:
            eventually(lambda: committed(output) >= ROWS / 5)
            up.close()
            give_rest(tmp_path)
            eventually(lambda: any("outage: calls wait" in log.read_text() for log in tmp_path.rglob("platform.log")))
            assert committed(output) < ROWS
            with served(port_of(base_url)):
                said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "LLMOperator: warning: outage: calls wait for m at http://127.0.0.1" in said
    assert_whole(tmp_path)


def test_a_row_that_an_endpoint_fails_at_is_no_outage(server: ChatServer, tmp_path: Path) -> None:
    """Not even when it is the only one in flight: the endpoint is asked whether it is there."""
    write_jsonl(tmp_path / "in.jsonl", [{"q": q} for q in ("a", "poison", "b", "forbidden")])

    def reply(seen: Seen) -> Reply:
        status = {"poison": 500, "forbidden": 403}.get(seen.body["messages"][-1]["content"], 200)
        return Reply(completion("yes"), status)

    server.reply = reply
    operator = server.operator(max_retries=7, retry_wait=0.001, outage_after=60)
    report = pipeline_in(tmp_path, operator, on_error="dead_letter").run()
    assert [row["q"] for row in lines(tmp_path / "out.jsonl")] == ["a", "b"]
    dead_letters = lines(tmp_path / "out.jsonl.errors.jsonl")
    assert [one["error"]["kind"] for one in dead_letters] == ["LLMRequestError"] * 2
    asked = [seen.body["messages"][-1]["content"] for seen in server.seen]
    assert asked.count("poison") == 8
    pings = asked.count("ping")
    assert pings == 3  # after five failures in a row, before the row is given up, after the 403
    assert sum(used["requests"] for used in report.usage) == 2 + pings  # what a ping costs is counted


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_an_endpoint_that_lets_nobody_in_fails_the_run_and_no_row(
    server: ChatServer, tmp_path: Path, status: int
) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{k}"} for k in range(1000)])
    server.always("no", status)
    pipeline = pipeline_in(tmp_path, server.operator(outage_after=60), parallel_size=5, on_error="skip")
    with pytest.raises(NodeFailedError, match=f"every call would be refused: .*HTTP {status}") as caught:
        pipeline.run()
    assert isinstance(caught.value.__cause__, EndpointRefusedError)
    assert len(server.seen) <= 2 * 5
    assert not (tmp_path / "out.jsonl.done").exists()


def test_while_an_endpoint_is_down_it_gets_nothing_but_probes_and_a_cancel_ends_the_waiting(server: ChatServer) -> None:
    async def ask() -> None:
        server.always("down", 503)
        ctx = Context()
        operator = server.operator(max_retries=0, outage_after=60)
        await operator.setup()
        calls = [asyncio.ensure_future(operator.process_item({"_i": k, "q": f"q{k}"}, ctx)) for k in range(30)]
        while not any("answers again" in line for line in ctx.lines):
            await asyncio.sleep(0.01)
            if len(server.seen) > 30 + 1:  # a ping; then a row is a probe
                server.always(completion("yes"))
        assert await asyncio.gather(*calls) == [{"_i": k, "q": f"q{k}", "answer": "yes"} for k in range(30)]
        assert len(server.seen) <= 30 + 6 + 30
        server.always("down", 503)
        call = asyncio.ensure_future(operator.process_item({"_i": 0, "q": "x"}, ctx))
        while not operator_waits(ctx):
            await asyncio.sleep(0.01)
        ctx.is_over = True
        with pytest.raises(LLMCancelledError, match="the run is cancelled"):
            await asyncio.wait_for(call, 10)
        await operator.teardown()

    def operator_waits(ctx: Context) -> bool:
        return sum("outage: calls wait" in line for line in ctx.lines) == 2

    asyncio.run(ask())


def test_tries_that_failed_in_an_outage_do_not_count(server: ChatServer) -> None:
    replies = iter(
        [503, 503, 503, 503, 503, 200, 500, 500, 200]
    )  # three tries and a ping, a probe, a ping; three tries

    async def ask() -> Any:
        server.reply = lambda seen: Reply(completion("yes"), next(replies))
        return await run_rows(server.operator(max_retries=2, retry_wait=0.001, outage_after=60), [{"_i": 0, "q": "x"}])

    assert asyncio.run(ask()) == [{"_i": 0, "q": "x", "answer": "yes"}]


def test_a_late_answer_to_a_call_that_was_sent_before_an_outage_does_not_end_it(
    server: ChatServer, tmp_path: Path
) -> None:
    """Else a row would be given up: its tries count again, and its endpoint is still down."""
    write_jsonl(tmp_path / "in.jsonl", [{"q": "early"}, {"q": "late"}])
    is_probed, is_answered = threading.Event(), threading.Event()
    errors_left = iter([503] * 2)

    def reply(seen: Seen) -> Reply:
        asked = seen.body["messages"][-1]["content"]
        if asked == "early":
            assert is_probed.wait(PATIENCE_SECONDS)
            is_answered.set()
            return Reply(completion("yes"))
        if is_answered.is_set():
            return Reply(completion("yes"), next(errors_left, 200))
        asked_late.append(asked)
        if len(asked_late) == 3:  # the call, a ping; then it is down, and this is a probe
            is_probed.set()
        return Reply("down", 503)

    asked_late: list[str] = []
    server.reply = reply
    log = tmp_path / "platform.log"
    streams = (f"jsonl://{tmp_path}/in.jsonl", f"jsonl://{tmp_path}/out.jsonl")
    operator = server.operator(outage_after=60)
    pipeline = UnifiedPipeline([operator], *streams, results_dir=str(tmp_path), log_file=str(log), parallel_size=2)
    pipeline.run()
    assert len(lines(tmp_path / "out.jsonl")) == 2
    assert [log.read_text().count(text) for text in ("is down", "answers again")] == [1, 1]


def down_for(server: ChatServer, calls: int) -> None:
    """Have a server answer so many calls with 503, and then all others."""
    errors_left = iter([503] * calls)
    server.reply = lambda seen: Reply(completion("yes"), next(errors_left, 200))


@pytest.mark.parametrize("is_shown", [False, True])
def test_a_program_whose_run_nothing_shows_is_warned_once_that_it_waits_and_once_that_it_goes_on(
    server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_shown: bool
) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": "a"}])
    down_for(server, 4)  # a call, a ping, a probe, a ping
    pipeline_in(tmp_path, server.operator(outage_after=60)).run(progress=is_shown)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if is_shown:
        assert said == []
        return
    waits, goes_on = said
    assert waits.startswith(f"node node_0 waits for tiny at {server.base_url}/chat/completions since ")
    assert waits.endswith("UTC: HTTP 503 (2 tries); 1 call waits")
    assert goes_on == f"node node_0 goes on: tiny at {server.base_url}/chat/completions answers again"


def test_an_outage_that_ends_the_run_is_not_said_to_be_over(
    server: ChatServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"q": "a"}])
    server.always("down", 503)
    pipeline = pipeline_in(tmp_path, server.operator(outage_after=0.3))
    with pytest.raises(NodeFailedError):
        pipeline.run()
    assert ["waits for" in record.getMessage() for record in caplog.records] == [True]
    assert all(node.outage is None for node in pipeline.progress)


@pytest.mark.slow
def test_what_waits_for_a_limit_is_not_sent_to_an_endpoint_that_is_down(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "WINDOW_SECONDS", 0.2)

    async def ask() -> None:
        ctx = Context()
        operator = server.operator(outage_after=60, requests_per_minute=4, max_retries=0)  # here: 4 within 0.2 s
        await operator.setup()
        server.always("down", 503)
        calls = [asyncio.ensure_future(operator.process_item({"_i": k, "q": f"q{k}"}, ctx)) for k in range(24)]
        while not any("is down" in line for line in ctx.lines):
            await asyncio.sleep(0.01)
        seen = len(server.seen)
        await asyncio.sleep(0.6)
        assert len(server.seen) - seen <= 4 + 3  # what was in flight; probes
        server.always(completion("yes"))
        assert len(await asyncio.gather(*calls)) == 24
        await operator.teardown()

    asyncio.run(ask())


def test_the_time_of_a_pause_does_not_count(server: ChatServer) -> None:
    server.always("down", 503)

    async def ask() -> None:
        ctx = Context()
        operator = server.operator(outage_after=0.5)
        await operator.setup()
        call = asyncio.ensure_future(operator.process_item({"_i": 0, "q": "x"}, ctx))
        while not any("outage: calls wait" in line for line in ctx.lines):
            await asyncio.sleep(0.01)
        ctx.is_on_hold = True
        seen = len(server.seen)
        await asyncio.sleep(1.0)
        assert not call.done()
        assert len(server.seen) == seen
        ctx.is_on_hold = False
        with pytest.raises(OutageError):
            await asyncio.wait_for(call, 10)
        await operator.teardown()

    asyncio.run(ask())


@pytest.mark.parametrize("outage_after", [-1, True, "1", float("inf")])
def test_a_wrong_outage_after_is_refused(outage_after: Any) -> None:
    with pytest.raises(ConfigError, match="outage_after must be a number of seconds, 0 or more"):
        LLMOperator("hi", model="m", outage_after=outage_after)
