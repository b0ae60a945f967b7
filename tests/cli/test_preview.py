"""`llm-datagen preview`: what the models are asked about a few rows, what they answer, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.testing import FakeLLMServer

from ..kit.support import lines, numbered, write_jsonl
from ..llm.chat_server import ChatServer, Reply, completion, serve
from .conftest import Command
from .shell import Shell

LLM = "llm_datagen.llm:LLMOperator"
CANARY = "sk-canary-4711"
QUESTION = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}


def _ask(prompt: str, **arguments: Any) -> dict[str, Any]:
    return {"use": LLM, "with": {"prompt": prompt, "model": "any-model", **arguments}}


def _told(messages: Sequence[Mapping[str, Any]]) -> Any:
    text = str(messages[-1]["content"])
    return {"question": f"why {text[4:]}?"} if text.startswith("ask ") else f"because of {text}"


@pytest.mark.process
def test_preview_spends_the_calls_of_its_rows_and_the_run_need_not_pay_for_them_again(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = "Be brief.\nBe kind."
    examples = [{"item": {"n": "cats"}, "answer": {"question": "why cats?"}}]
    pipeline = shell.yaml(
        [
            _ask(
                "ask {{ n }}", n=2, output=QUESTION, system=system, examples=examples, cache="kept", params={"seed": 3}
            ),
            {"use": "ops:add", "with": {"much": 0}},
            _ask("answer {{ question }}", cache="kept"),
        ],
        parallel_size=8,
    )
    write_jsonl(shell.folder / "in.jsonl", numbered(6))
    before = {path.name for path in shell.folder.iterdir()}
    temporary = shell.folder / "temporary"
    temporary.mkdir()
    with FakeLLMServer(answer=_told, api_key=CANARY) as server:
        known: dict[str, Any] = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": CANARY, "TMPDIR": str(temporary)}
        shown = shell.run("preview", pipeline, "-n", "3", **known)
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert server.calls == 3 + 3  # the second stage gets three of the six rows that came out of the first
        assert server.prompts["answer why 1?"] == 1
        assert not list(temporary.iterdir())
        # The first run of all goes on from there: the answers are kept.
        for name, value in known.items():
            monkeypatch.setenv(name, value)
        command("run", pipeline)
        assert server.calls == 6 + 6
        assert len(shell.rows()) == 12
    for part in (
        "Be brief.\n              Be kind.",
        "user      ask cats",
        'assistant {"question": "why cats?"}',
        "user      ask 2",
        'answer    {"question":"why 2?"}',
        "user      answer why 0?",
        "answer    because of answer why 0?",
        "any-model, seed=3",
        "json_schema: question",
        "node_1 add: 3 rows in (of 6 that are there), 3 out",
        'row out   {"question":"why 2?"} and 1 column as before',
        "any-model, seed=3, 2 answers",
        "6 calls made",
    ):
        assert part in shown.stdout, part
    assert CANARY not in shown.stdout + shown.stderr
    made = {path.name for path in shell.folder.iterdir()} - before - {"__pycache__"}
    assert made == {"temporary", "kept", "out.jsonl", "out.jsonl.done", "tmp", "logs"}  # all but the cache by the run


def _files(shell: Shell) -> dict[Path, bytes]:
    """Return what is in the files that are not Python's own."""
    files = (path for path in shell.folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path: path.read_bytes() for path in files}


def test_preview_touches_nothing_of_a_run_that_is_there(shell: Shell, command: Command) -> None:
    pipeline = shell.yaml(["ops:odd"], pipeline_id="mine")
    command("run", pipeline)
    before = _files(shell)
    shown = command("preview", pipeline).output
    assert "node_0 odd: 5 rows in, 2 out" in shown
    assert "none: it is filtered" in shown
    assert _files(shell) == before


def test_without_calls_only_prompts_that_need_no_answer_are_shown(shell: Shell, command: Command) -> None:
    pipeline = shell.yaml(["ops:twice", _ask("ask {{ n }}/{{ k }}", cache="kept"), _ask("then {{ answer }}")])
    with FakeLLMServer() as server:
        shown = command("preview", "--no-calls", "-n", "2", pipeline, "--set", "parallel_size=2").output
        assert server.calls == 0
    assert "user      ask 0/0" in shown
    assert "user      ask 1/0" in shown
    assert "node_2 LLMOperator: 0 rows in: it needs the answers of the nodes before it" in shown
    assert "2 calls not made, nothing spent and nothing written" in shown
    assert not (shell.folder / "kept").exists()


@pytest.mark.slow
def test_chosen_rows_as_json_and_a_row_that_fails(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(shell.folder / "in.jsonl", [*numbered(9), {"other": 1}])
    with (shell.folder / "in.jsonl").open("a") as file:
        file.write("{torn\n")
    pipeline = shell.yaml([_ask("ask {{ n }}", output=QUESTION, max_repairs=1, cache="kept")])
    with FakeLLMServer(answer="no JSON") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        arguments = ("preview", pipeline, "--row", "8", "--row", "9", "--row", "10")
        found = json.loads(command(*arguments, "--json", code=1).output)
        assert server.calls == 2  # a repair is a call, as in the run
        shown = command(*arguments, code=1).output
        assert server.calls == 4  # answers that cannot be used are not kept
    (node,) = found["nodes"]
    assert [given["id"] for given in node["given"]] == [8, 9]
    assert [dead_letter["row"] for dead_letter in node["failed"]] == [8, 9]
    assert "uses an undefined name" in node["failed"][1]["text"]
    assert [call["answer"]["text"] for call in node["calls"]] == ["no JSON", "no JSON"]
    assert "cannot be used" in node["calls"][1]["messages"][-1]["content"]
    (unreadable,) = found["unreadable"]
    assert unreadable.startswith("in.jsonl: row 10 cannot be read: ")
    assert "line 1 column 2" in unreadable
    assert (found["calls"], found["cost"]) == (2, None)
    assert "failed    LLMAnswerError" in shown or "cannot be used after 2 answers" in shown
    shown = command("preview", pipeline, "--row", "10", code=1).output
    assert "0 rows in: of its input, none could be read" in shown
    assert "no row 11" in command("preview", pipeline, "--row", "11", code=2).output


ROUTED = """
from llm_datagen import Route, UnifiedNode, UnifiedNodePipeline
from llm_datagen.llm import LLMOperator


def sort(item):
    return Route("even" if item["n"] % 2 == 0 else "odd", item)


def make():
    sorter = UnifiedNode("sorter").set_operator(sort)
    sorter.bind_io("jsonl://in.jsonl", {"even": "csv://even.csv", "odd": "jsonl://odd.jsonl"})
    ask = UnifiedNode("ask").bind_io("csv://even.csv", "jsonl://asked.jsonl")
    ask.set_operator(LLMOperator("even {{ n }} {{ n is string }}", model="m"))
    other = UnifiedNode("other").bind_io("csv://even.csv", "jsonl://other.jsonl").set_operator(lambda item: item)
    return UnifiedNodePipeline([sorter, ask, other], log_file=None)
"""


def test_routed_and_shared_streams_are_followed(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.text(ROUTED, "routed.py")
    with FakeLLMServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        found = json.loads(command("preview", "routed:make", "-n", "4", "--json").output)
        assert sorted(server.prompts) == ["even 0 true", "even 2 true"]  # through CSV, as in the run
    rows = {node["node_id"]: [row["id"] for row in node["made"]] for node in found["nodes"]}
    assert rows == {"sorter": [0, 1, 2, 3], "sorter.even": [0, 2], "sorter.odd": [1, 3], "ask": [0, 2], "other": [0, 2]}
    assert sorted(path.name for path in shell.folder.iterdir() if path.name != "__pycache__") == [
        "in.jsonl",
        "ops.py",
        "routed.py",
    ]


def test_what_cannot_be_previewed_is_refused(shell: Shell, command: Command) -> None:
    assert (
        "does not exist" in command("preview", shell.yaml(["ops:odd"], input_uri="jsonl://none.jsonl"), code=1).output
    )
    assert "is not a setting" in command("preview", shell.yaml(["ops:odd"]), "--set", "nothing=1", code=2).output
    shell.text(
        "from llm_datagen import StopRun\n\n\ndef stop(item):\n    raise StopRun('the cap is reached')\n", "stop.py"
    )
    shown = command("preview", shell.yaml(["stop:stop"], retries=3), code=1).output
    assert "node_0 ended before its rows were done: the cap is reached" in shown
    assert not Path("tmp").exists()
    assert len(lines(shell.folder / "in.jsonl")) == 50


@pytest.mark.process
@pytest.mark.parametrize("batch_by", ["position", "parent"])
def test_preview_says_when_batches_may_mix_parents(shell: Shell, batch_by: str) -> None:
    (shell.folder / "pairs.py").write_text(
        "def two(row):\n    return [{**row, 'k': k} for k in range(2)]\n\ndef best(items):\n    return items\n"
    )
    last = {"use": "pairs:best", "batch": True, "batch_size": 2, "batch_by": batch_by}
    pipeline = shell.yaml(["pairs:two", last])
    write_jsonl(shell.folder / "in.jsonl", numbered(3))
    shown = shell.run("preview", pipeline)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert ("rows of several parents may share one" in shown.stdout) == (batch_by == "position")


@pytest.mark.parametrize("verb", ["preview", "plan"])
def test_calls_that_failed_and_repairs_are_in_what_was_spent(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """12.2.3: every call that was served is in usage and cost, in what is tried as in a run."""
    write_jsonl(shell.folder / "in.jsonl", numbered(2))
    ask = _ask("ask {{ n }}", output=QUESTION, max_retries=1, retry_wait=0.001, prices={"input": 1.0, "output": 2.0})
    replies = [
        completion("half", finish_reason="error"),  # tried again
        completion("no JSON"),  # repaired
        completion('{"question": "why?"}'),
        completion("half", finish_reason="error"),
        completion("half", finish_reason="error"),  # the row fails
    ]
    server = ChatServer()
    server.reply = lambda seen: Reply(replies[len(server.seen) - 1])
    http = serve(server)
    try:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        arguments = (verb, shell.yaml([ask], parallel_size=1), "--json")
        found = json.loads(command(*arguments, code=0 if verb == "plan" else 1).output)
    finally:
        http.shutdown()
        http.server_close()
    assert len(server.seen) == 5
    spent = found["sample"] if verb == "plan" else found
    assert spent["cost"] == pytest.approx(5 * (7e-6 + 2 * 3e-6))
    assert spent["calls"] == 3  # one with a second try, its repair, and one that failed twice
    if verb == "preview":
        assert (spent["prompt_tokens"], spent["completion_tokens"]) == (35, 15)
