"""`cache=` through whole pipelines: nothing that was answered is paid for again."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError, NodeFailedError
from llm_datagen.llm import LLMAnswerError, LLMOperator
from llm_datagen.testing import FakeLLMServer

from ..kit import programs
from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Context, Reply, Seen, completion, run_rows

JOB = Path(__file__).with_name("paid_once_job.py")


def echo(seen: Seen) -> Reply:
    return Reply(completion("answer to " + seen.body["messages"][-1]["content"]))


def prompts(server: ChatServer) -> Counter[str]:
    return Counter(seen.body["messages"][-1]["content"] for seen in server.seen)


@pytest.mark.process
def test_no_call_is_made_again_after_kill_9_between_the_answer_and_the_commit(
    server: ChatServer, tmp_path: Path
) -> None:
    server.reply = echo
    questions = [f"q{k}" for k in range(12)]
    write_jsonl(tmp_path / "in.jsonl", [{"q": question} for question in questions])

    def start(dies_after: int) -> int:
        command = [JOB, server.base_url, dies_after]
        return programs.run(command, cwd=tmp_path).returncode

    assert start(7) == -signal.SIGKILL
    assert prompts(server) == Counter(questions[:7])
    assert start(0) == 0
    assert prompts(server) == Counter(questions)
    assert [row["answer"] for row in lines(tmp_path / "out.jsonl")] == [f"answer to {q}" for q in questions]


def job(cwd: Path, base_url: str, dies_after: int, **options: Any) -> int:
    """Run the job in a folder, with six rows in it, and return how it ended."""
    write_jsonl(cwd / "in.jsonl", [{"q": f"q{k}"} for k in range(6)])
    return programs.run([JOB, base_url, dies_after, json.dumps(options)], cwd=cwd).returncode


@pytest.mark.process
def test_several_streamed_answers_to_a_row_are_paid_once_over_kill_9(tmp_path: Path) -> None:
    with FakeLLMServer() as fake:
        assert job(tmp_path, fake.base_url, 4, n=3, stream=True) == -signal.SIGKILL
        assert job(tmp_path, fake.base_url, 0, n=3, stream=True) == 0
        assert (fake.calls, set(fake.answered.values())) == (6, {1})
    rows = lines(tmp_path / "out.jsonl")
    assert (len(rows), len({row["answer"] for row in rows})) == (18, 18)


@pytest.mark.process
def test_a_resume_asks_with_the_same_seeds(server: ChatServer, tmp_path: Path) -> None:
    def asked() -> set[tuple[str, int]]:
        return {(seen.body["messages"][-1]["content"], seen.body["seed"]) for seen in server.seen}

    server.reply = echo
    assert job(tmp_path, server.base_url, 4, n=2, seed=7, cache=None) == -signal.SIGKILL
    before = asked()
    assert job(tmp_path, server.base_url, 0, n=2, seed=7, cache=None) == 0
    assert len(server.seen) > 12, "without a cache, a row was asked about again"
    assert (len(before), len(asked())) == (8, 12)


def test_a_rerun_with_another_later_node_costs_nothing(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.reply = echo
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{k % 8}"} for k in range(10)])

    def run(name: str, later: Any) -> Any:
        ask = server.operator(cache="answers.sqlite", api_key="sk-canary-1234567890")
        pipeline = UnifiedPipeline([ask, later], "jsonl://in.jsonl", f"jsonl://{name}.jsonl", parallel_size=10)
        return pipeline.create(name).run()

    first = run("first", lambda row: {**row, "n": 1})
    assert max(prompts(server).values()) == 1, "equal prompts are asked once"
    second = run("second", lambda row: {**row, "n": 2})
    assert len(server.seen) == 8
    assert first.usage[0] | {"cached": 2, "requests": 8, "total_tokens": 80} == first.usage[0]
    assert [{key: entry[key] for key in entry if key not in ("provider", "model")} for entry in second.usage] == [
        {"cached": 10}
    ]
    answers = [row["answer"] for row in lines(tmp_path / "second.jsonl")]
    assert sorted(answers) == sorted(f"answer to q{k % 8}" for k in range(10))
    assert not any(b"sk-canary" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_what_broke_the_schema_is_kept_with_its_repair_and_forgotten_without_one(
    server: ChatServer, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    operator = server.operator(output=schema, cache=str(tmp_path / "answers"), max_repairs=1)

    def run(ctx: Context | None = None) -> list[Any]:
        return asyncio.run(run_rows(operator, [{"q": "x"}], ctx))

    server.always(completion("no JSON"))
    for calls in (2, 4):
        with pytest.raises(LLMAnswerError):
            run()
        assert len(server.seen) == calls
    good = completion('{"a": "b"}')
    server.reply = lambda seen: Reply(good if len(seen.body["messages"]) > 1 else completion("no JSON"))
    assert run() == [{"q": "x", "a": "b"}]
    assert len(server.seen) == 6
    ctx = Context()
    assert run(ctx) == [{"q": "x", "a": "b"}]
    assert len(server.seen) == 6
    assert [used["cached"] for used in ctx.usage] == [1, 1]


def test_cache_must_be_a_path() -> None:
    for wrong in ("", 7, True):
        with pytest.raises(ConfigError, match="cache must be text"):
            LLMOperator("x", model="m", cache=wrong)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_used_fails_the_run_and_a_resume_goes_on_when_it_is_gone(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": "x"}])
    path = tmp_path / "answers"
    path.write_text("no database" * 100)
    ask = server.operator(cache=str(path))
    pipeline = UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl").create("job")
    with pytest.raises(NodeFailedError, match=r"CacheError: .*move it away"):
        pipeline.run()
    assert not server.seen
    path.unlink()
    UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl").resume("job").run()
    assert len(lines(tmp_path / "out.jsonl")) == 1


def test_no_row_fails_because_answers_cannot_be_kept(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.reply = echo
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"q{k}"} for k in range(20)])
    path = tmp_path / "answers"

    def run() -> None:
        ask = server.operator(cache=str(path))
        pipeline = UnifiedPipeline([ask], "jsonl://in.jsonl", "jsonl://out.jsonl", on_error="dead_letter")
        pipeline.create("job", if_exists="resume").run()

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(path)) as other:
            other.execute(statement)

    asyncio.run(run_rows(server.operator(cache=str(path)), [{"q": "q0"}]))
    execute("CREATE TRIGGER full BEFORE INSERT ON answers BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    with pytest.raises(NodeFailedError, match=r"CacheError: .*disk is full"):
        run()
    execute("DROP TRIGGER full")
    run()
    assert len(lines(tmp_path / "out.jsonl")) == 20
    assert not (tmp_path / "out.jsonl.errors.jsonl").exists()
