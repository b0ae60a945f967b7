"""Cassettes: real calls are recorded once, and played ever after, without a network."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_datagen import ConfigError, NodeFailedError, UnifiedPipeline
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.cache.cassette_file import CassetteError, RecordMode
from llm_datagen.testing import FakeLLMServer, LLMFaults, cassette

from ..cli.shell import Shell
from ..kit.support import lines, write_jsonl

CANARY = "sk-canary-of-a-cassette"
NOWHERE = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory, and an environment without cassettes and keys."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LLM_DATAGEN_CASSETTE", "LLM_DATAGEN_RECORD_MODE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    assert "LLM_DATAGEN_CASSETTE" not in os.environ


_names = itertools.count()


def _run(base_url: str | None, prompts: list[str], *, api_key: str | None = None, **arguments: Any) -> Any:
    """Ask in two stages; return the rows, without their ids, and the usage."""
    name = f"run{next(_names)}"
    write_jsonl(Path("in.jsonl"), [{"text": prompt} for prompt in prompts])
    settings: dict[str, Any] = {"model": "m", "base_url": base_url, "api_key": api_key, "retry_wait": 0.01, **arguments}
    ask = LLMOperator("ask {{ text }}", n=2, **settings)
    check = LLMOperator("check {{ answer }}", output="checked", **settings)
    pipeline = UnifiedPipeline(
        [ask, check],
        "jsonl://in.jsonl",
        f"jsonl://{name}.jsonl",
        streaming=True,
        parallel_size=8,
        on_error="dead_letter",
    )
    report = pipeline.create(name).run()
    rows = lines(Path(f"{name}.jsonl"))
    return sorted((row["text"], row["answer"], row["checked"]) for row in rows), report.usage


def _recorded(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.slow
def test_what_was_recorded_is_played_with_its_failures_and_without_a_network_or_a_key() -> None:
    counter = itertools.count()
    prices = {"input": 1.0, "output": 2.0}
    faults = LLMFaults(server_error=0.2, rate_limit=0.1, retry_after=0.01, malformed=0.1)
    with FakeLLMServer(answer=lambda _: f"answer {next(counter)}", faults=faults, seed=3, api_key=CANARY) as server:
        with cassette("tapes/one.jsonl", "once") as path:
            recorded = _run(server.base_url, ["a", "b", "a", "c"], api_key=CANARY, prices=prices)
        made = server.calls
        assert server.faults_met.total() > 0
    calls = _recorded(path)
    assert len(calls) == made
    assert sum("error" in call for call in calls) == server.faults_met.total()
    assert CANARY.encode() not in path.read_bytes()
    tape = path.read_bytes()
    modes: list[RecordMode] = ["none", "once", "new_episodes"]
    for mode in modes:
        with cassette(path, mode):
            assert _run(NOWHERE, ["a", "b", "a", "c"], prices=prices) == recorded
        assert path.read_bytes() == tape
    with cassette(path):
        rows, _ = _run(NOWHERE, ["b", "c"], requests_per_minute=1)  # of an endpoint that is not there
    assert rows == [row for row in recorded[0] if row[0] != "a"]


def test_an_unknown_call_fails_the_run_and_says_what_to_do() -> None:
    with FakeLLMServer(answer="yes") as server:
        with cassette("tape.jsonl", "once"):
            _run(server.base_url, ["a long question"], params={"seed": 1})
        made = server.calls
        with cassette("tape.jsonl"):
            with pytest.raises(NodeFailedError) as other_prompt:
                _run(server.base_url, ["a long request"], params={"seed": 1})
            with pytest.raises(NodeFailedError) as other_params:
                _run(server.base_url, ["a long question"], params={"seed": 2})
        with cassette("tape.jsonl"), pytest.raises(NodeFailedError) as too_often:
            _run(server.base_url, ["a long question"] * 2, params={"seed": 1})
        assert server.calls == made
    for raised, part in (
        (other_prompt, "nearest request differs in messages;"),
        (other_params, "nearest request differs in params;"),
        (too_often, "has it 1 times, and it is asked once more;"),
    ):
        error = raised.value.__cause__
        assert isinstance(error, CassetteError)
        assert part in str(error)
        assert "row " in str(error)
        assert "LLM_DATAGEN_RECORD_MODE=new_episodes" in str(error)
        assert "long" not in str(error)  # the prompt is the rows', and the message is logged
    (note,) = other_prompt.value.__cause__.__notes__  # type: ignore[union-attr]
    assert "question" in note.splitlines()[0]
    assert "request" in note.splitlines()[1]


def test_the_modes_record_what_they_say() -> None:
    with FakeLLMServer() as server:
        with cassette("tape.jsonl", "new_episodes") as path:
            _run(server.base_url, ["a"])
        with cassette("tape.jsonl", "new_episodes"):
            _run(server.base_url, ["a", "b"])
        assert server.prompts["ask a"] == 2  # two samples, once
        assert len(_recorded(path)) == server.calls == 8
        with cassette("tape.jsonl", "once"), pytest.raises(NodeFailedError):
            _run(server.base_url, ["c"])
        assert server.calls == 8
        with cassette("tape.jsonl", "all"):
            _run(server.base_url, ["a"])
        assert len(_recorded(path)) == 4
        assert server.prompts["ask a"] == 4


def test_calls_of_a_pool_are_played_whoevers_turn_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_ONE", CANARY)
    counter = itertools.count()
    faults = LLMFaults(server_error=0.3)
    with FakeLLMServer(answer=lambda _: f"answer {next(counter)}", faults=faults, seed=5) as server:
        pool = [
            {"model": "one", "base_url": server.base_url, "api_key_env": "KEY_OF_ONE", "params": {"seed": 1}},
            {"model": "two", "base_url": server.base_url, "weight": 2},
        ]
        settings: dict[str, Any] = {"model": None, "endpoints": pool, "params": {"seed": 7, "top_p": 0.5}}
        with cassette("tape.jsonl", "once") as path:
            rows, usage = _run(None, list("abcdef"), **settings)
        assert server.faults_met.total() > 0
        made = server.calls
        monkeypatch.delenv("KEY_OF_ONE")
        with cassette("tape.jsonl"):
            played, used = _run(None, list("fedcba"), **settings)
        with cassette("tape.jsonl"), pytest.raises(NodeFailedError, match="nearest request differs in params"):
            _run(None, ["a"], **{**settings, "params": {"seed": 7, "top_p": 1.0}})
        assert server.calls == made
    assert played == rows
    assert {entry["model"]: entry["requests"] for entry in used} == {
        entry["model"]: entry["requests"] - sum("ping" in line for line in _pings(path, entry["model"]))
        for entry in usage
    }


def _pings(path: Path, model: str) -> list[str]:
    """Return the answered calls of a model by which the pool asked whether it is there."""
    calls = [call for call in _recorded(path) if call["request"]["messages"] == [{"role": "user", "content": "ping"}]]
    return ["ping" for call in calls if "answer" in call and call["answer"]["model"] == model]


def test_a_refused_request_is_played_and_a_refused_key_is_not_recorded() -> None:
    def refuse(_: Any) -> str:
        raise ValueError("too long")

    with FakeLLMServer(answer=refuse, api_key=CANARY) as server, cassette("tape.jsonl", "new_episodes") as path:
        with pytest.raises(NodeFailedError, match="HTTP 401"):
            _run(server.base_url, ["a"], api_key="another")
        assert server.faults_met["api_key"] >= 2
        assert path.read_bytes() == b""
        _run(server.base_url, ["a"], api_key=CANARY)
    with cassette("tape.jsonl"):
        _run(NOWHERE, ["a"])
    path = max(Path("tmp").rglob("node_0.jsonl.errors.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    (letter,) = lines(path)
    assert "HTTP 400" in letter["error"]["text"]
    assert "[played from" in letter["error"]["text"]


def test_a_tape_that_was_torn_at_any_byte_is_played_and_recorded_on() -> None:
    with FakeLLMServer(answer="yes") as server:
        with cassette("tape.jsonl", "once") as path:
            _run(server.base_url, ["a"])
        tape = path.read_bytes()
        whole = tape[: tape.rfind(b"\n", 0, -1) + 1]
        for length in (len(whole), len(whole) + 1, (len(whole) + len(tape)) // 2, len(tape) - 1):
            path.write_bytes(tape[:length])
            with cassette(path), pytest.raises(NodeFailedError, match=r"asked once more|not on the cassette"):
                _run(server.base_url, ["a"])
            assert path.read_bytes() == tape[:length]
            made = server.calls
            with cassette(path, "new_episodes"):
                _run(server.base_url, ["a"])
            assert server.calls == made + 1
            assert len(_recorded(path)) == tape.count(b"\n")


def test_what_is_no_cassette_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with cassette("none.jsonl"), pytest.raises(NodeFailedError, match=r"none\.jsonl is not there: record it by"):
        _run(NOWHERE, ["a"])
    assert not Path("none.jsonl").exists()
    Path("bad.jsonl").write_text('{"request": {}}\n')
    with cassette("bad.jsonl"), pytest.raises(NodeFailedError, match=r"bad\.jsonl, line 1 is no call"):
        _run(NOWHERE, ["a"])
    with pytest.raises(ConfigError, match="none, once, new_episodes, all, not 'replay'"), cassette("x", "replay"):  # type: ignore[arg-type]
        pass
    monkeypatch.setenv("LLM_DATAGEN_RECORD_MODE", "once")
    Path("folder").mkdir()
    with cassette("folder"), pytest.raises(NodeFailedError, match="folder cannot be opened"):
        _run(NOWHERE, ["a"])


@pytest.mark.process
def test_the_program_plays_a_tape_that_the_environment_names(folder: Path) -> None:
    shell = Shell(folder)
    write_jsonl(folder / "in.jsonl", [{"n": 1}, {"n": 2}])
    ask = {"use": "llm_datagen.llm:LLMOperator", "with": {"prompt": "ask {{ n }}", "model": "m"}}
    pipeline = shell.yaml([ask])
    tape = {"LLM_DATAGEN_CASSETTE": "tape.jsonl"}
    with FakeLLMServer(api_key=CANARY) as server:
        known = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": CANARY, "LLM_DATAGEN_RECORD_MODE": "once"}
        shown = shell.run("preview", pipeline, **tape, **known)  # type: ignore[arg-type]
        assert shown.returncode == 0, shown.stderr
    assert CANARY not in (folder / "tape.jsonl").read_text()
    with cassette("tape.jsonl"):  # a process that the test starts inherits it
        inherited = {name: value for name, value in os.environ.items() if name.startswith("LLM_DATAGEN")}
        shown = shell.run("run", pipeline, OPENAI_BASE_URL=NOWHERE, **inherited)  # type: ignore[arg-type]
    assert shown.returncode == 0, shown.stderr
    assert [row["n"] for row in shell.rows()] == [1, 2]
