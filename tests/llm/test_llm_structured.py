"""How JSON is asked for: as was chosen, or in the best way that an endpoint knows; no row pays for finding out."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, LLMRequestError
from llm_datagen.testing import FakeLLMServer

from .chat_server import ChatServer, Context, Reply, completion, run_rows

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
ROW = {"_i": 0, "q": "x"}
WORDS = "Answer with nothing but a JSON object that is valid against this JSON schema:\n\n" + json.dumps(SCHEMA)
MODES = ("json_schema", "json_object", "tool", "prompt")


def mode_of(body: dict[str, Any]) -> str:
    if "tools" in body:
        return "tool"
    return str(body.get("response_format", {}).get("type", "prompt"))


def refusing(server: ChatServer, refusals: dict[str, Any], *, status: int = 400) -> None:
    """Have the server refuse some modes, each with a body of its own."""

    def reply(seen: Any) -> Reply:
        mode = mode_of(seen.body)
        if mode in refusals:
            return Reply(refusals[mode], status)
        if mode == "tool":
            call = {"type": "function", "function": {"name": "answer", "arguments": '{"n": 7}'}}
            body = completion(None, finish_reason="tool_calls")
            body["choices"][0]["message"]["tool_calls"] = [call]
            return Reply(body)
        return Reply(completion('{"n": 7}'))

    server.reply = reply


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_that_was_chosen_is_the_one_that_is_asked_in(server: ChatServer, mode: str) -> None:
    refusing(server, {})
    assert asyncio.run(run_rows(server.operator(output=SCHEMA, structured=mode), [ROW])) == [{**ROW, "n": 7}]
    body = server.seen[0].body
    assert mode_of(body) == mode
    message = body["messages"][-1]["content"]
    assert message == (f"x\n\n{WORDS}" if mode in ("json_object", "prompt") else "x")
    if mode == "tool":
        assert body["tools"][0]["function"]["parameters"] == SCHEMA
        assert body["tool_choice"] == {"type": "function", "function": {"name": "answer"}}


def test_a_mode_that_was_chosen_is_not_left(server: ChatServer) -> None:
    refusing(server, {"json_object": {"error": {"message": "response_format is unknown"}}})
    with pytest.raises(LLMRequestError, match="response_format is unknown"):
        asyncio.run(run_rows(server.operator(output=SCHEMA, structured="json_object"), [ROW]))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "refusals", "taken"),
    [
        (400, {"json_schema": {"error": {"message": "This model has no json_schema"}}}, "json_object"),
        (422, {"json_schema": {"detail": [{"loc": ["body", "response_format", "type"]}]}}, "json_object"),
        (400, dict.fromkeys(MODES[:2], "response_format: extra inputs are not permitted"), "tool"),
        (400, {**dict.fromkeys(MODES[:2], "no response_format"), "tool": "tools are not supported"}, "prompt"),
    ],
)
def test_an_endpoint_that_refuses_a_mode_is_asked_in_the_next_one_once_and_for_all(
    server: ChatServer, status: int, refusals: Any, taken: str
) -> None:
    refusing(server, refusals, status=status)
    ctx = Context()
    rows = asyncio.run(run_rows(server.operator(output=SCHEMA, meta=True), [ROW, ROW, ROW], ctx))
    assert [row["n"] for row in rows] == [7] * 3
    assert [mode_of(seen.body) for seen in server.seen] == [*MODES[: MODES.index(taken)], taken, taken, taken]
    assert {row["_meta"]["node_0"]["attempts"] for row in rows} == {1}
    assert sum(used.get("requests", 0) for used in ctx.usage) == 3
    (line,) = [line for line in ctx.lines if "structured" in line]
    assert f"it is asked by '{taken}' from now on" in line


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "the prompt has 9000 tokens, more than the context"}}),
        (401, {"error": {"message": "no key for json_schema"}}),
        (500, {"error": {"message": "response_format crashed"}}),
    ],
)
def test_another_failure_changes_no_mode(server: ChatServer, status: int, body: Any) -> None:
    refusing(server, {"json_schema": body}, status=status)
    with pytest.raises(LLMRequestError):
        asyncio.run(run_rows(server.operator(output=SCHEMA), [ROW]))
    assert {mode_of(seen.body) for seen in server.seen} <= {"json_schema", "prompt"}  # a ping has no schema
    assert [seen for seen in server.seen if "JSON schema" in str(seen.body["messages"])] == []


def test_a_row_that_fails_in_every_mode_changes_nothing_for_the_others(server: ChatServer) -> None:
    refusals = {mode: {"error": {"message": f"{mode} response_format tools"}} for mode in MODES}
    operator = server.operator(output=SCHEMA)

    async def both() -> list[Any]:
        await operator.setup()
        try:
            refusing(server, refusals)
            with pytest.raises(LLMRequestError, match="prompt response_format"):
                await operator.process_item(ROW, Context())
            refusing(server, {})
            return [await operator.process_item(ROW, Context())]
        finally:
            await operator.teardown()

    assert asyncio.run(both()) == [{**ROW, "n": 7}]
    assert mode_of(server.seen[-1].body) == "json_schema"


@pytest.mark.parametrize("known", [("json_object",), ("tool",), ()])
def test_no_row_of_a_run_fails_while_the_mode_is_found_out(tmp_path: Path, known: Any) -> None:
    def answer(messages: Any) -> Any:
        return {"n": 7}

    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(f'{{"q": {k}}}\n' for k in range(40)), encoding="utf-8")
    with FakeLLMServer(answer=answer, structured=known) as server:
        operator = LLMOperator("{{ q }}", model="m", base_url=server.base_url, output=SCHEMA, max_retries=0)
        pipeline = UnifiedPipeline([operator], f"jsonl://{source}", f"jsonl://{output}", log_file=None, parallel_size=8)
        pipeline.create("p", results_dir=str(tmp_path / "results")).run()
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["n"] for row in rows] == [7] * 40
    assert server.answered.total() == 40
    assert 1 <= server.faults_met["structured"] <= 3 * 8


def test_the_fake_server_makes_arguments_of_a_tool_by_its_schema() -> None:
    with FakeLLMServer(structured=["tool"]) as server:
        operator = LLMOperator("{{ q }}", model="m", base_url=server.base_url, output=SCHEMA, structured="tool")
        (row,) = asyncio.run(run_rows(operator, [ROW]))
    assert isinstance(row["n"], int)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (None, [{"function": {"name": "answer", "arguments": {"n": 7}}}]),
        (None, [{"function": {"name": "answer", "arguments": '{"n": 7}'}}] * 2),
        ('```json\n{"n": 7}\n```', None),
    ],
    ids=["arguments as an object", "called twice", "a text in place of a call"],
)
def test_what_models_make_of_a_tool_is_read(server: ChatServer, text: Any, calls: Any) -> None:
    body = completion(text)
    body["choices"][0]["message"]["tool_calls"] = calls
    server.always(body)
    operator = server.operator(output=SCHEMA, structured="tool", max_repairs=0)
    assert asyncio.run(run_rows(operator, [ROW])) == [{**ROW, "n": 7}]


def test_a_tool_that_was_cut_off_is_no_answer(server: ChatServer) -> None:
    body = completion(None, finish_reason="length")
    body["choices"][0]["message"]["tool_calls"] = [{"function": {"name": "answer", "arguments": '{"n": 7}'}}]
    server.always(body)
    with pytest.raises(Exception, match="cut off"):
        asyncio.run(run_rows(server.operator(output=SCHEMA, structured="tool"), [ROW]))


def test_a_kept_answer_counts_for_every_mode(server: ChatServer, tmp_path: Path) -> None:
    refusing(server, {})
    for mode in MODES:
        operator = server.operator(output=SCHEMA, structured=mode, cache=str(tmp_path / "cache"))
        assert asyncio.run(run_rows(operator, [ROW])) == [{**ROW, "n": 7}]
    assert len(server.seen) == 1


def test_the_messages_api_steps_down_to_its_own_tools(server: ChatServer) -> None:
    def reply(seen: Any) -> Reply:
        if "output_config" in seen.body:
            return Reply({"type": "error", "error": {"message": "output_config: extra inputs are not permitted"}}, 400)
        content = [{"type": "tool_use", "id": "a", "name": "answer", "input": {"n": 7}}]
        usage = {"input_tokens": 1, "output_tokens": 2}
        return Reply({"content": content, "stop_reason": "tool_use", "usage": usage})

    server.reply = reply
    base_url = server.base_url.removesuffix("/v1")
    operator = LLMOperator("{{ q }}", model="c", adapter="anthropic", base_url=base_url, output=SCHEMA)
    assert asyncio.run(run_rows(operator, [ROW])) == [{**ROW, "n": 7}]
    body = server.seen[-1].body
    tool = {"name": "answer", "description": "Takes the answer.", "input_schema": SCHEMA, "strict": True}
    assert body["tools"] == [tool]
    assert body["tool_choice"] == {"type": "tool", "name": "answer"}


def test_the_schema_goes_into_the_last_message_of_the_user_also_beside_images(server: ChatServer) -> None:
    refusing(server, {})
    prompt = [
        {"role": "user", "content": "{{ q }}", "images": ["https://example.org/1.png"]},
        {"role": "assistant", "content": "{"},
    ]
    asyncio.run(run_rows(server.operator(prompt, output=SCHEMA, structured="prompt"), [ROW]))
    first, last = server.seen[0].body["messages"]
    assert first["content"][-1] == {"type": "text", "text": WORDS}
    assert last["content"] == "{"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structured": "xml", "output": SCHEMA}, "structured must be one of 'json_schema'.* or None, not 'xml'"),
        ({"structured": "tool"}, "structured is of answers in JSON"),
        ({"structured": "tool", "output": SCHEMA, "params": {"tools": [{}]}}, "leave one of the two out"),
        ({"structured": "json_object", "output": SCHEMA, "adapter": "anthropic"}, "AnthropicAdapter does not speak"),
    ],
)
def test_a_mode_that_cannot_be_had_is_refused_at_construction(server: ChatServer, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        server.operator(**options)
