"""`llm-datagen trace --calls`: all that was said about a row, and by which version of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from llm_datagen.testing import FakeLLMServer

from ..kit.support import write_jsonl
from .conftest import Command
from .shell import Shell

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
TRIED_ONCE = {"max_retries": 0, "outage_after": 0}
BACK = "This answer cannot be used: "


def answer(messages: Sequence[Mapping[str, Any]]) -> str:
    """Answer with the prompt in capitals; with a mood only when asked for the second time, and never a bad one."""
    said = str(messages[-1]["content"])
    if said.startswith("mood"):
        return "no JSON"
    is_bad = "BAD" in str(messages[0]["content"])
    return '{"mood": "good"}' if said.startswith(BACK) and not is_bad else said.upper()


@pytest.fixture
def server() -> Iterator[FakeLLMServer]:
    with FakeLLMServer(answer=answer) as fake:
        yield fake


@pytest.fixture(autouse=True)
def rows(shell: Shell) -> None:
    write_jsonl(shell.folder / "in.jsonl", [{"q": "q0"}, {"q": "q1"}, {"q": "bad"}])


def pipeline(shell: Shell, server: FakeLLMServer, *prompts: str, **settings: Any) -> str:
    """Write a pipeline of models: the first word of a prompt is the column that it makes."""

    def step(prompt: str) -> dict[str, Any]:
        output = SCHEMA if prompt.startswith("mood") else prompt.partition(" ")[0]
        asked = {"model": "m", "base_url": server.base_url, "api_key": "k", **TRIED_ONCE}
        return {"prompt": prompt, "output": output, **asked}

    steps = [{"use": "llm_datagen.llm:LLMOperator", "with": step(prompt)} for prompt in prompts]
    return shell.yaml(steps, on_error="dead_letter", **settings)


def shown(command: Command, run: str, row: str) -> list[str]:
    """Return the lines about calls: who said what, and of the heads only what stands behind the seconds."""
    told = command("trace", run, row, "--calls").stdout.splitlines()
    found = [" ".join(line.split()) for line in told if line.startswith("      ")]
    return [f"call{line.partition(' s')[2]}" if line.startswith("call ") else line for line in found]


def prompts(command: Command, run: str, row: str) -> dict[str, list[tuple[str, Any]]]:
    """Return of each node the prompts that the calls behind a row have had, with the version, if that is said."""
    found = json.loads(command("trace", run, row, "--calls", "--json").stdout)["found"]
    return {
        each["where"]: [(call["messages"][0]["content"], call.get("version")) for call in each["calls"]]
        for each in found
        if each["where"] != "input"
    }


def test_a_repair_is_shown_in_its_order(shell: Shell, command: Command, server: FakeLLMServer) -> None:
    command("run", pipeline(shell, server, "mood of {{ q }}"), "--id", "a")
    head, asked, first, back, second = shown(command, "a", "1")
    assert (head, asked, first) == ("call, 2 attempts, 1 repair", "user mood of q1", "answer 1 no JSON")
    assert back.startswith(f"repair {BACK}it is not JSON")
    assert second == 'answer 2 {"mood": "good"}'
    (call,) = json.loads(command("trace", "a", "1", "--calls", "--json").stdout)["found"][-1]["calls"]
    assert [message["role"] for message in call["messages"]] == ["user", "assistant", "user"]
    assert (call["repairs_at"], call["repaired_answers"], call["answer"]) == ([2], ["no JSON"], '{"mood": "good"}')


def test_repairs_that_were_of_no_use_are_shown_before_the_error(
    shell: Shell, command: Command, server: FakeLLMServer
) -> None:
    command("run", pipeline(shell, server, "draft {{ q }}", "mood of {{ draft }}"), "--id", "a")
    _, _, _, _, asked, first, back, *_, last, error = shown(command, "a", "2")
    assert (asked, first) == ("user mood of DRAFT BAD", "answer 1 no JSON")
    assert back.startswith(f"repair {BACK}")
    assert last.startswith(f"answer 2 {BACK.upper()}")
    assert error.startswith("error LLMAnswerError: ")
    assert "after 2 answers" in error


def test_a_repair_that_nobody_answers_is_shown_and_so_is_the_next_try(shell: Shell, command: Command) -> None:
    def answer_once(messages: Sequence[Mapping[str, Any]]) -> str:
        fake.outage = not is_back
        return answer(messages)

    is_back = False
    write_jsonl(shell.folder / "in.jsonl", [{"q": "q0"}])
    with FakeLLMServer(answer=answer_once) as fake:
        command("run", pipeline(shell, fake, "mood of {{ q }}"), "--id", "a", code=1)
        begun = shown(command, "a", "0")
        fake.outage, is_back = False, True
        command("resume", "a", "p.yaml")
    names = [" ".join(line.split()[:2]) for line in begun]
    assert names == ["call, 1", "user mood", "answer 1", "repair This", "error OutageError:"]
    again = shown(command, "a", "0")
    assert again[: len(begun)] == begun
    assert [" ".join(line.split()[:2]) for line in again[len(begun) + 1 :]] == [*names[1:4], "answer 2"]


def test_each_version_shows_its_own_calls(shell: Shell, command: Command, server: FakeLLMServer) -> None:
    """Those of the steps that were not done again belong to all, and say which version has made them."""
    command("run", pipeline(shell, server, "draft {{ q }}", "mood of {{ draft }}", "sum {{ mood }}"), "--id", "a")
    for asked in ("mood for {{ draft }}", "mood in {{ draft }}"):
        edited = pipeline(shell, server, "draft {{ q }}", asked, "sum {{ mood }}")
        command("resume", "a", edited, "--rerun")
    for version, word, kept in (("a@1", "of", None), ("a@2", "for", 1), ("a@3", "in", 1), ("a", "in", 1)):
        assert prompts(command, version, "1") == {
            "node_0": [("draft q1", kept)],
            "node_1": [(f"mood {word} DRAFT Q1", None)],
            "node_2": [("sum good", None)],
        }
    heads = [line for line in shown(command, "a", "1") if line.startswith("call")]
    assert heads == ["call, kept from version 1", "call, 2 attempts, 1 repair", "call"]
    assert "version" not in "".join(shown(command, "a@1", "1"))
    for version, word in (("a@1", "of"), ("a", "in")):
        report = command("report", version, "--format", "json").stdout
        told = {word for word in ("of", "for", "in") if f"mood {word} DRAFT" in report}
        assert told == {word}
        assert ("kept from version 1" in report) == (version == "a")


def test_a_version_keeps_its_calls_when_the_run_is_started_afresh(
    shell: Shell, command: Command, server: FakeLLMServer
) -> None:
    command("run", pipeline(shell, server, "draft {{ q }}"), "--id", "a")
    command("resume", "a", pipeline(shell, server, "letter {{ q }}"), "--rerun")
    command("run", pipeline(shell, server, "poem {{ q }}"), "--id", "a", "--if-exists", "overwrite")
    assert prompts(command, "a@1", "0") == {"node_0": [("draft q0", None)]}
    assert prompts(command, "a", "0") == {"node_0": [("poem q0", None)]}


def test_calls_that_were_replaced_are_gone(shell: Shell, command: Command, server: FakeLLMServer) -> None:
    command("run", pipeline(shell, server, "draft {{ q }}", "sum {{ draft }}"), "--id", "a")
    command("resume", "a", pipeline(shell, server, "draft {{ q }}", "list {{ draft }}"), "--replace")
    assert prompts(command, "a", "1") == {"node_0": [("draft q1", None)], "node_1": [("list DRAFT Q1", None)]}


def test_rows_that_come_later_are_of_the_version_of_today(
    shell: Shell, command: Command, server: FakeLLMServer
) -> None:
    command("run", pipeline(shell, server, "draft {{ q }}", "sum {{ draft }}"), "--id", "a")
    command("resume", "a", pipeline(shell, server, "draft {{ q }}", "list {{ draft }}"), "--rerun")
    with (shell.folder / "in.jsonl").open("a") as file:
        file.write('{"q": "q3"}\n')
    command("resume", "a")
    assert prompts(command, "a", "3") == {"node_0": [("draft q3", None)], "node_1": [("list DRAFT Q3", None)]}
    assert prompts(command, "a", "0")["node_0"] == [("draft q0", 1)]


def test_the_calls_of_a_step_that_was_removed_are_those_of_the_version(
    shell: Shell, command: Command, server: FakeLLMServer
) -> None:
    """Also when a step of that name comes again."""
    command("run", pipeline(shell, server, "draft {{ q }}", "sum {{ draft }}"), "--id", "a")
    command("resume", "a", pipeline(shell, server, "draft {{ q }}"), "--rerun")
    command("resume", "a", pipeline(shell, server, "draft {{ q }}", "list {{ draft }}"), "--rerun")
    assert prompts(command, "a@1", "1")["node_1"] == [("sum DRAFT Q1", None)]
    assert prompts(command, "a", "1")["node_1"] == [("list DRAFT Q1", None)]
