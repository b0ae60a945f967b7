"""The operator executes the calls that a model makes, and asks again with the results."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError, FatalError, StopRun
from llm_datagen.llm import LLMAnswerError, LLMOperator, Tool, ToolError, ToolLimitError, Tools, ToolsStuckError
from llm_datagen.llm.limits.token_estimate import size_of
from llm_datagen.llm.tools import threads as tool_threads
from llm_datagen.llm.types import ChatRequest
from llm_datagen.operators.fingerprint import changed_parts
from llm_datagen.streams.rows import Rejected

from .chat_server import ChatServer, Context, run_rows
from .tool_kit import add, call, calls, echo, results, says, script

ROW = {"_i": 3, "q": "2 and 3?"}
ADD = call("add", {"a": 2, "b": 3})
SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}


def run(operator: LLMOperator, ctx: Context | None = None) -> Any:
    (row,) = asyncio.run(run_rows(operator, [ROW], ctx))
    return row


def test_calls_are_executed_and_the_model_is_asked_again_with_the_results(server: ChatServer) -> None:
    """Plain and async functions, several calls of one answer, the whole conversation as a column."""
    both = calls(ADD, call("echo", {"text": "a b"}, "c2"), content="Let me see.")
    script(server, both, calls(call("add", {"a": 5}, "c3")), says("six"))
    ctx = Context()
    tools = [add, echo]
    row = run(server.operator(tools=tools, extra_columns={"messages": "talk"}, meta=True, prices=PRICES), ctx)
    first, second, third = (seen.body for seen in server.seen)
    assert [each["function"]["name"] for each in first["tools"]] == ["add", "echo"]
    assert first["tools"] == second["tools"] == third["tools"]
    asked = {"role": "user", "content": "2 and 3?"}
    assert first["messages"] == [asked]
    assert third["messages"] == [
        asked,
        {"role": "assistant", "content": "Let me see.", "tool_calls": [ADD, call("echo", {"text": "a b"}, "c2")]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "tool", "tool_call_id": "c2", "content": '{"words":["a","b"]}'},
        {"role": "assistant", "content": None, "tool_calls": [call("add", {"a": 5}, "c3")]},
        {"role": "tool", "tool_call_id": "c3", "content": "6"},
    ]
    assert row["answer"] == "six"
    assert row["talk"] == [*third["messages"], {"role": "assistant", "content": "six"}]
    meta = row["_meta"]["node_0"]
    assert (meta["calls"], meta["tool_calls"], meta["prompt_tokens"]) == (3, 3, 30)
    assert meta["cost"] == pytest.approx(3 * 15e-6)
    assert [used["requests"] for used in ctx.usage] == [1, 1, 1]


PRICES = {"input": 1.0, "output": 1.0}


def test_the_conversation_is_a_column_also_without_tools(server: ChatServer) -> None:
    script(server, says("yes"))
    row = run(server.operator(system="Be kind.", extra_columns={"messages": "talk"}))
    assert row["talk"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "2 and 3?"},
        {"role": "assistant", "content": "yes"},
    ]


def test_a_tool_that_wants_the_context_gets_it(server: ChatServer) -> None:
    def where(ctx: Any) -> str:
        return str(ctx.node_id)

    async def where_else(x: int, ctx: Any) -> str:
        return f"{x} {ctx.node_id}"

    script(server, calls(call("where", {}), call("where_else", {"x": 1}, "c2")), says("ok"))
    run(server.operator(tools=[where, where_else]))
    assert results(server) == ["node_0", "1 node_0"]
    assert server.seen[0].body["tools"][0]["function"]["parameters"]["properties"] == {}


NO_OBJECT = "Error: the arguments are no JSON object, or are nested too deeply"
PARSE = ", unable to parse string as an integer"


def test_what_the_model_does_wrong_it_is_told(server: ChatServer) -> None:
    wrong = [
        call("add", {"b": "x"}),
        call("add", "no JSON", "c2"),
        call("add", "[1]", "c3"),
        call("subtract", {}, "c4"),
        call("add", "", "c5"),
        call("add", '{"a": "\\ud800"}', "c6"),
        call("add", '{"a": ' + '{"a": ' * 500 + "1" + "}" * 501, "c7"),
    ]
    script(server, calls(*wrong), says("ok"))
    assert run(server.operator(tools=Tools([add], on_tool_error="fail")))["answer"] == "ok"
    assert results(server) == [
        f"Error: the arguments do not fit: a: Field required; b: Input should be a valid integer{PARSE}",
        NO_OBJECT,
        NO_OBJECT,
        "Error: there is no tool 'subtract'; there are: add",
        "Error: the arguments do not fit: a: Field required",
        f"Error: the arguments do not fit: a: Input should be a valid integer{PARSE}",
        NO_OBJECT,
    ]
    sent = server.seen[1].body["messages"][1]["tool_calls"]
    assert [json.loads(each["function"]["arguments"]) for each in sent[:5]] == [
        {"b": "x"},
        {"invalid_json": "no JSON"},
        {"invalid_json": "[1]"},
        {},
        {},
    ]


def bad(x: int) -> None:
    raise KeyError("the shelf")


async def worse(x: int) -> None:
    raise TimeoutError("of its own")


def leaving(x: int) -> None:
    raise SystemExit(3)


def half(x: int) -> None:
    raise ValueError("\ud83d")


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("it has no text")


def mute(x: int) -> None:
    raise Mute


def huge(x: int) -> str:
    return "ü" * x


def strange(x: int) -> object:
    return object()


FAILING = {
    bad: ("KeyError: 'the shelf'", {"x": 1}),
    worse: ("TimeoutError: of its own", {"x": 1}),
    leaving: ("SystemExit: 3", {"x": 1}),
    half: ("ValueError: \ufffd", {"x": 1}),
    mute: ("Mute: an error without a text", {"x": 1}),
    huge: ("the result is too long: 22 bytes, and 20 are allowed; ask for less", {"x": 11}),
    strange: ("the result cannot be written as JSON: Unable to serialize unknown type: <class 'object'>", {"x": 1}),
}


@pytest.mark.parametrize("tool", FAILING)
def test_a_tool_that_fails_is_told_or_fails_the_row(server: ChatServer, tool: Callable[..., Any]) -> None:
    why, given = FAILING[tool]
    script(server, calls(call(tool.__name__, given)), says("ok"))
    assert run(server.operator(tools=Tools([tool], max_result_bytes=20)))["answer"] == "ok"
    assert results(server) == [f"Error: {why}"]
    with pytest.raises(ToolError) as caught:
        run(server.operator(tools=Tools([tool], max_result_bytes=20, on_tool_error="fail")))
    assert str(caught.value) == f"row 3: the tool {tool.__name__} failed: {why}"


def test_a_tool_that_fails_is_logged_once_without_the_words_of_its_error(server: ChatServer) -> None:
    """Else nobody sees that a tool is broken: the model answers all the same."""
    ctx = Context()
    made = call("bad", {"x": 1}, "a"), call("bad", {"x": 2}, "b"), call("echo", {"text": "t"}, "c")
    script(server, calls(*made), says("ok"))
    assert run(server.operator(tools=[bad, echo]), ctx)["answer"] == "ok"
    assert [line for line in ctx.lines if "tool" in line] == [
        "row 3: the tool bad failed with KeyError; the model is told, and the row goes on, as on_tool_error='tell' "
        "says. llm-datagen trace ID 3 --calls shows the error; said once {'level': 'warning'}"
    ]


@dataclass
class Point:
    x: float


VALUES = {
    "text": ("héllo\n", "héllo\n"),
    "none": (None, "null"),
    "list": ([1, True, {"a": None}], '[1,true,{"a":null}]'),
    "dataclass": (Point(0.5), '{"x":0.5}'),
    "date": ({"on": date(2026, 11, 30)}, '{"on":"2026-11-30"}'),
    "nan": (float("nan"), "NaN"),
    "long": (10**30, str(10**30)),
}


def test_results_of_any_kind_become_texts(server: ChatServer) -> None:
    def value(name: str) -> Any:
        return VALUES[name][0]

    script(server, calls(*(call("value", {"name": name}, name) for name in VALUES)), says("ok"))
    run(server.operator(tools=[value]))
    assert results(server) == [text for _, text in VALUES.values()]


@pytest.mark.parametrize("error", [FatalError("no database"), StopRun("enough"), Rejected("out of scope")])
def test_what_ends_the_run_or_leaves_out_the_row_is_passed_on(server: ChatServer, error: Exception) -> None:
    done = []

    def ends() -> None:
        raise error

    def other() -> str:
        done.append(1)
        raise ValueError("no matter")

    script(server, calls(call("other", {}), call("ends", {}, "c2")))
    with pytest.raises(type(error)) as caught:
        run(server.operator(tools=Tools([ends, other], on_tool_error="fail")))
    assert (caught.value, done) == (error, [1])


def test_a_row_may_use_tools_in_so_many_rounds(server: ChatServer, tmp_path: Path) -> None:
    """What was paid for is in the cache: with a higher bound, the row goes on where it was given up."""
    script(server, *(calls(call("add", {"a": each}, f"c{each}")) for each in range(3)), says("done"))
    options: dict[str, Any] = {"cache": str(tmp_path / "cache"), "prompt": "{{ q }}"}
    with pytest.raises(ToolLimitError) as caught:
        run(server.operator(tools=Tools([add], max_rounds=2), **options))
    assert str(caught.value) == (
        "row 3 is given up after 2 calls of tools: the model called tools in 2 rounds, and calls them again "
        "(max_rounds=2); raise max_rounds in tools, or change the prompt"
    )
    assert len(server.seen) == 3
    assert run(server.operator(tools=Tools([add], max_rounds=3), **options))["answer"] == "done"
    assert len(server.seen) == 4


def test_a_row_may_cost_so_much_with_tools(server: ChatServer, tmp_path: Path) -> None:
    script(server, calls(ADD), calls(ADD), says("done"))
    options: dict[str, Any] = {"cache": str(tmp_path / "cache"), "prices": PRICES}
    for _ in range(2):  # what came from the cache counts as what it cost
        with pytest.raises(
            ToolLimitError, match=r"1 calls of tools: its answers cost 3e-05 US dollars \(max_usd=3e-05"
        ):
            run(server.operator(tools=Tools([add], max_usd=3e-5), **options))
        assert len(server.seen) == 2
    assert run(server.operator(tools=Tools([add], max_usd=4e-5), **options))["answer"] == "done"
    with pytest.raises(ConfigError, match="max_usd of tools: no price is known of model 'tiny'"):
        server.operator(tools=Tools([add], max_usd=1))


def test_a_row_may_take_so_long_with_tools(server: ChatServer) -> None:
    released = threading.Event()

    def stuck() -> None:
        released.wait()

    script(server, calls(call("stuck", {})), says("done"))
    try:
        with pytest.raises(ToolLimitError, match=r"as long as they may \(max_seconds=0\.05\); raise max_seconds"):
            run(server.operator(tools=Tools([stuck], max_seconds=0.05)))
        assert run(server.operator(tools=Tools([stuck], timeout=0.01)))["answer"] == "done"
        assert results(server) == ["Error: it took longer than 0.01 seconds"]
    finally:
        released.set()


def test_a_call_that_takes_too_long_is_left_behind(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is left behind takes nobody's place; when too many never come back, the run fails."""
    monkeypatch.setattr(tool_threads, "MOST_LEFT", 2)
    released, ended = threading.Event(), threading.Event()

    def stuck() -> None:
        released.wait()
        ended.set()

    async def endless() -> None:
        await asyncio.Event().wait()

    script(server, calls(call("endless", {}), *(call("stuck", {}, f"c{each}") for each in range(2))), says("done"))
    tools = Tools([Tool(stuck, timeout=0.01), endless], timeout=0.02, threads=1)
    try:

        async def rows() -> list[Any]:
            operator: Any = server.operator(tools=tools)
            await operator.setup()
            found = [(await operator.process_item(ROW, Context()))["answer"]]
            assert results(server) == [f"Error: it took longer than {each} seconds" for each in (0.02, 0.01, 0.01)]
            with pytest.raises(ToolsStuckError, match="2 calls of tools took longer than they may, and still run"):
                await operator.process_item(ROW, Context())
            released.set()
            await asyncio.to_thread(ended.wait)
            while operator._toolbox._threads._left:
                await asyncio.sleep(0)
            found.append((await operator.process_item(ROW, Context()))["answer"])
            await operator.teardown()
            return found

        assert asyncio.run(rows()) == ["done", "done"]
    finally:
        released.set()


def test_plain_functions_do_not_block_the_loop_and_calls_of_an_answer_run_at_once(server: ChatServer) -> None:
    """Each waits for the other one: neither would return if they ran one after the other, or on the loop."""
    here, there = threading.Event(), threading.Event()

    def left() -> bool:
        here.set()
        return there.wait(20)

    async def right() -> bool:
        there.set()
        return await asyncio.to_thread(here.wait, 20)

    script(server, calls(call("right", {}), call("left", {}, "c2")), says("ok"))
    run(server.operator(tools=[left, right]))
    assert results(server) == ["true", "true"]


def test_calls_run_one_after_the_other_where_that_is_wanted(server: ChatServer) -> None:
    log: list[str] = []

    async def step(name: str) -> None:
        log.append(f"{name} begins")
        await asyncio.sleep(0)
        log.append(f"{name} ends")

    script(server, calls(call("step", {"name": "b"}), call("step", {"name": "a"}, "c2")), says("ok"))
    run(server.operator(tools=Tools([step], parallel=False)))
    assert log == ["b begins", "b ends", "a begins", "a ends"]


def test_answers_to_a_schema_are_repaired_after_rounds_with_tools(server: ChatServer, tmp_path: Path) -> None:
    script(server, calls(ADD), says('{"sum": "five"}'), calls(ADD), says('{"sum": 5}'))
    made = {"tools": [add], "output": SCHEMA, "cache": str(tmp_path / "cache")}
    row = run(server.operator(**made, meta=True, extra_columns={"messages": "talk"}))
    assert (row["sum"], row["_meta"]["node_0"]["tool_calls"], len(server.seen)) == (5, 2, 4)
    assert [message["role"] for message in row["talk"]] == [
        *("user", "assistant", "tool", "assistant", "user", "assistant", "tool", "assistant")
    ]
    assert all("response_format" in seen.body and "tools" in seen.body for seen in server.seen)
    assert run(server.operator(**made))["sum"] == 5
    assert len(server.seen) == 4


def test_of_an_answer_that_cannot_be_used_the_calls_of_tools_stay_in_the_cache(
    server: ChatServer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"tools": [add], "output": SCHEMA, "cache": str(tmp_path / "c"), "max_repairs": 0}
    script(server, calls(ADD), says("junk"))
    with pytest.raises(LLMAnswerError):
        run(server.operator(**options))
    script(server, calls(ADD), says('{"sum": 5}'))
    assert run(server.operator(**options))["sum"] == 5
    assert [len(seen.body["messages"]) for seen in server.seen] == [1, 3, 3]


def test_each_sample_has_rounds_of_its_own(server: ChatServer) -> None:
    script(server, calls(ADD), says("five"))
    assert [row["answer"] for row in run(server.operator(tools=[add], n=3))] == ["five"] * 3
    assert len(server.seen) == 6


def test_a_choice_of_a_tool_that_has_to_be_called_is_of_the_first_round(server: ChatServer) -> None:
    script(server, calls(ADD), says("five"))
    run(server.operator(tools=[add], params={"tool_choice": "required", "temperature": 0}))
    assert [seen.body.get("tool_choice") for seen in server.seen] == ["required", None]


def test_calls_that_end_as_a_text_does_are_calls(server: ChatServer, tmp_path: Path) -> None:
    """Some servers say "stop", give no ids, give one id to all, or arguments as an object."""
    odd = calls(call("add", {"a": 1}, "same"), call("add", {"a": 2}, "same"))
    odd["choices"][0]["finish_reason"] = "stop"
    odd["choices"][0]["message"]["tool_calls"].append({"function": {"name": "add", "arguments": {"a": 3}}})
    script(server, odd, says("ok"))
    for _ in range(2):
        assert run(server.operator(tools=[add], cache=str(tmp_path / "cache")))["answer"] == "ok"
    assert len(server.seen) == 2
    assert results(server) == ["2", "3", "4"]
    sent = server.seen[1].body["messages"][1]["tool_calls"]
    assert [each["id"] for each in sent] == ["same", "call00002", "call00003"]


def test_a_call_without_a_name_fails_the_row_and_is_not_kept(server: ChatServer, tmp_path: Path) -> None:
    options: dict[str, Any] = {"tools": [add], "cache": str(tmp_path / "cache")}
    script(server, calls({"id": "c1", "function": {}}))
    with pytest.raises(LLMAnswerError, match=r"the answer of tiny at .* calls a tool, and does not say which"):
        run(server.operator(**options))
    script(server, says("ok"))
    assert run(server.operator(**options))["answer"] == "ok"


def test_tools_go_with_some_other_arguments_and_not_with_others(server: ChatServer) -> None:
    own = {"type": "web_search"}
    script(server, says("ok"))
    run(server.operator(tools=[add], params={"tools": [own]}))
    assert [tool["type"] for tool in server.seen[0].body["tools"]] == ["web_search", "function"]
    for options, message in (
        ({"params": {"tools": [{"type": "function", "function": {"name": "f"}}]}}, "a function that nobody would call"),
        ({"params": {"tools": [{"name": "f", "input_schema": {}}]}}, "a function that nobody would call"),
        ({"extra_columns": {"tool_calls": "c"}}, "take 'messages', which has the calls and their results"),
        ({"structured": "tool", "output": SCHEMA}, "structured='tool' takes the place of tools"),
    ):
        with pytest.raises(ConfigError, match=message):
            server.operator(tools=[add], **options)
    with pytest.raises(ConfigError, match="tools must be a list of tools, a Tools or a dict, not <function add"):
        server.operator(tools=add)
    with pytest.raises(ConfigError, match="need a chat template that knows tools"):
        LLMOperator("{{ q }}", model="m.gguf", engine="llama", tools=[add])
    with pytest.raises(ConfigError, match="tools cannot be used with engine 'vllm'"):
        LLMOperator("{{ q }}", model="m", engine="vllm", tools=[add])
    LLMOperator("{{ q }}", model="g", adapter="gemini", params={"tools": [{"googleSearch": {}}]}, tools=[add])
    LLMOperator("{{ q }}", model="m.gguf", engine={"kind": "llama", "options": {"use_jinja": True}}, tools=[add])


def test_a_budget_counts_every_round(server: ChatServer) -> None:
    script(server, calls(ADD), calls(ADD, content="hm " * 1000), says("ok"))
    ctx = Context()
    tools: dict[str, Any] = {"tools": [add], "params": {"max_tokens": 5000}}
    with pytest.raises(StopRun, match="the budget of 7,000 tokens is reached: 30 tokens spent, and the next call"):
        run(server.operator(budget={"tokens": 7000}, **tools), ctx)
    assert (len(server.seen), len(ctx.usage)) == (2, 2)


def test_what_tools_add_to_a_prompt_is_reserved_of_a_token_limit() -> None:
    message = {"role": "user", "content": "x" * 100}
    plain = size_of(ChatRequest(messages=[message], params={}, model="m"))
    offered = {"tools": [{"type": "function", "function": {"name": "add", "description": "y" * 500}}]}
    assert size_of(ChatRequest(messages=[message], params=offered, model="m")) > plain + 500
    made = {"role": "assistant", "content": None, "tool_calls": [call("add", {"a": "z" * 500})]}
    assert size_of(ChatRequest(messages=[message, made], params={}, model="m")) > plain + 500


def test_no_tool_is_called_while_the_run_is_paused(server: ChatServer) -> None:
    script(server, calls(call("noted", {})), says("ok"))
    ctx = Context()
    called_while_paused: list[bool] = []

    def noted() -> None:
        called_while_paused.append(ctx.is_on_hold)

    async def rows() -> None:
        operator: Any = server.operator(tools=[noted])
        await operator.setup()
        try:
            row = asyncio.create_task(operator.process_item(ROW, ctx))
            while not server.seen:
                await asyncio.sleep(0.001)
            ctx.is_on_hold = True
            release.set()
            await asyncio.sleep(0.3)
            assert not row.done()
            ctx.is_on_hold = False
            assert (await row)["answer"] == "ok"
        finally:
            await operator.teardown()

    answer, release = server.reply, threading.Event()
    server.reply = lambda seen: (release.wait(20), answer(seen))[1]
    asyncio.run(rows())
    assert called_while_paused == [False]


def test_tools_in_a_file_are_those_in_code(server: ChatServer) -> None:
    """A pipeline in YAML names functions; a fingerprint has their code, and does not have the bounds."""
    named: Mapping[str, Any] = {"tools": ["tests.llm.tool_kit:add", {"function": "tests.llm.tool_kit:echo"}]}
    given = server.operator(tools=[add, Tool(echo)]).fingerprint()
    assert server.operator(tools=named["tools"]).fingerprint() == given
    assert server.operator(tools={**named, "max_rounds": 3, "timeout": 1.0}).fingerprint() == given
    assert {name for name in given if name.startswith("tool ")} == {
        *("tool add", "tool add: code", "tool add: default of b", "tool echo", "tool echo: code")
    }

    def other(a: int, b: int = 1) -> int:
        return a - b

    changed = server.operator(tools=[Tool(other, name="add", description="Adds two numbers."), echo]).fingerprint()
    assert {name for name in given if given[name] != changed.get(name)} == {"tool add", "tool add: code"}
    assert "tool add" not in server.operator().fingerprint()
    # As another version of Python says it, whose bytecode differs.
    elsewhere = {name: value and value.replace("cpython-3", "cpython-4") for name, value in given.items()}
    assert elsewhere["tool add: code"] != given["tool add: code"]
    assert changed_parts(elsewhere, given) == []
    assert changed_parts(changed, given) == ["tool add", "tool add: code"]
