"""LLMOperator: prompts, columns, usage, and what a call that went wrong says."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel, Field

from llm_datagen.errors import ConfigError, DatagenError
from llm_datagen.llm import LLMAnswerError, LLMError, LLMOperator, LLMRequestError, PromptError
from llm_datagen.operators import Call

from .chat_server import ChatServer, Context, Reply, completion, run_rows


class Verdict(BaseModel):
    label: str
    score: int = Field(default=0, ge=0, le=10)


SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "answer": {"type": "string", "maxLength": 5}},
    "required": ["question", "answer"],
    "additionalProperties": False,
}


def run(operator: Any, *items: Any, ctx: Context | None = None) -> list[Any]:
    return asyncio.run(run_rows(operator, list(items), ctx))


def test_the_fields_of_the_row_are_the_variables_of_the_prompt(server: ChatServer) -> None:
    operator = server.operator("{{ a }} and {{ b.c | upper }}", system="Row {{ _i }}.", params={"temperature": 0})
    run(operator, {"_i": 4, "a": "x", "b": {"c": "y"}})
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].body == {
        "model": "tiny",
        "temperature": 0,
        "messages": [{"role": "system", "content": "Row 4."}, {"role": "user", "content": "x and Y"}],
    }


def test_the_row_comes_back_with_the_answer_in_a_column_of_its_own(server: ChatServer) -> None:
    row = {"_i": "3_1", "q": "why?"}
    assert run(server.operator(output="reply"), row) == [{"_i": "3_1", "q": "why?", "reply": "yes"}]
    assert row == {"_i": "3_1", "q": "why?"}


def test_an_item_that_is_not_an_object_is_the_variable_data(server: ChatServer) -> None:
    assert run(server.operator("{{ data }}!"), "hello") == [{"data": "hello", "answer": "yes"}]
    assert server.seen[0].body["messages"] == [{"role": "user", "content": "hello!"}]


def test_an_undefined_name_is_an_error_that_names_the_row_and_the_variable(server: ChatServer) -> None:
    with pytest.raises(PromptError, match=r"row 17 .*'colour' is undefined; the row has: _i, q"):
        run(server.operator("{{ colour }}"), {"_i": 17, "q": "secret text"})
    with pytest.raises(PromptError, match=r"row 0 .*the function 'range' would be written"):
        run(server.operator("{{ range }}"), {"_i": 0})
    assert server.seen == []


def test_a_prompt_can_neither_reach_into_python_nor_change_the_row(server: ChatServer) -> None:
    row = {"_i": 1, "tags": ["a"]}
    with pytest.raises(PromptError, match="row 1"):
        run(server.operator("{{ tags.__class__.__mro__ }}"), row)
    with pytest.raises(PromptError, match="row 1 cannot be made: SecurityError"):
        run(server.operator("{{ tags.append('b') }}"), row)
    assert row == {"_i": 1, "tags": ["a"]}


def test_a_prompt_that_comes_out_blank_is_not_sent(server: ChatServer) -> None:
    with pytest.raises(PromptError, match=r"the prompt of row 9 is empty"):
        run(server.operator(), {"_i": 9, "q": " "})
    assert server.seen == []


def test_an_answer_to_a_json_schema_becomes_columns(server: ChatServer) -> None:
    server.always(completion('{"question": "Q?", "answer": "A"}'))
    row = {"_i": 0, "q": "x"}
    assert run(server.operator(output=SCHEMA), row) == [{"_i": 0, "q": "x", "question": "Q?", "answer": "A"}]
    assert server.seen[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False},
    }


def test_a_property_that_was_not_asked_for_does_not_replace_the_id(server: ChatServer) -> None:
    server.always(completion('{"a": 1, "_i": 9, "more": 2}'))
    schema = {"type": "object", "properties": {"a": {}}}
    assert run(server.operator(output=schema), {"_i": 0, "q": "x"}) == [{"_i": 0, "q": "x", "a": 1, "more": 2}]


@pytest.mark.parametrize("output", [Verdict, f"{__name__}:Verdict"], ids=["class", "import path"])
def test_an_answer_to_a_pydantic_model_becomes_columns(server: ChatServer, output: Any) -> None:
    server.always(completion('{"label": "good", "score": 7}'))
    assert run(server.operator(output=output), {"_i": 0, "q": "x"}) == [
        {"_i": 0, "q": "x", "label": "good", "score": 7}
    ]
    sent = server.seen[0].body["response_format"]["json_schema"]
    assert (sent["name"], sent["strict"]) == ("Verdict", True)
    assert sent["schema"]["required"] == ["label", "score"]
    assert sent["schema"]["additionalProperties"] is False


def test_solved_examples_are_shown_to_the_model_first(server: ChatServer) -> None:
    server.always(completion('{"question": "Q?", "answer": "A"}'))
    example = {"item": {"q": "pond"}, "answer": {"question": "What?", "answer": "Lake"}}
    run(server.operator("Word: {{ q }}", output=SCHEMA, examples=[example]), {"_i": 0, "q": "ship"})
    assert server.seen[0].body["messages"] == [
        {"role": "user", "content": "Word: pond"},
        {"role": "assistant", "content": '{"question": "What?", "answer": "Lake"}'},
        {"role": "user", "content": "Word: ship"},
    ]


def test_usage_is_reported_to_the_node(server: ChatServer) -> None:
    ctx = Context()
    run(server.operator(), {"_i": 0, "q": "x"}, {"_i": 1, "q": "y"}, ctx=ctx)
    expected = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "tiny", "requests": 1, **expected}] * 2


def test_an_answer_that_cannot_be_used_is_reported_as_used_all_the_same(server: ChatServer) -> None:
    server.always(completion("half an ans", finish_reason="length"))
    ctx = Context()
    with pytest.raises(LLMAnswerError, match=r"row 5 was cut off at the token limit: raise max_tokens") as caught:
        run(server.operator(), {"_i": 5, "q": "x"}, ctx=ctx)
    assert caught.value.finish_reason == "length"
    assert ctx.usage[0]["total_tokens"] == 10


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        ("a", "content_filter", "withheld by the content filter"),
        (None, "tool_calls", r"a tool that nobody offered \(finish_reason 'tool_calls'\)"),
        (" \n", "stop", "it is empty"),
    ],
)
def test_an_answer_that_is_none_is_an_error(server: ChatServer, content: Any, reason: str, message: str) -> None:
    server.always(completion(content, finish_reason=reason))
    with pytest.raises(LLMAnswerError, match=message):
        run(server.operator(), {"_i": 0, "q": "x"})


@pytest.mark.parametrize(
    ("output", "content", "message"),
    [
        (SCHEMA, "I think that", "it is not JSON"),
        (SCHEMA, '["a"]', r"\$ is not of type object"),
        (SCHEMA, '{"question": "Q?"}', r"\$ lacks answer"),
        (SCHEMA, '{"question": "Q?", "answer": "too long"}', r"\$\.answer breaks maxLength 5"),
        (SCHEMA, '{"question": "Q?", "answer": "A", "more": 1}', "1 properties that the schema does not name"),
        (Verdict, '{"label": "x", "score": 11}', "Verdict does not accept it: score: less_than_equal"),
        (Verdict, '{"label": "x", "score": NaN}', "it holds NaN, which is no JSON number"),
    ],
)
def test_an_answer_that_breaks_the_schema_is_an_error(
    server: ChatServer, output: Any, content: str, message: str
) -> None:
    server.always(completion(content))
    with pytest.raises(LLMAnswerError, match=message) as caught:
        run(server.operator(output=output), {"_i": 8, "q": "x"})
    assert "row 8" in str(caught.value)
    assert "too long" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "hint"), [(500, "resume to try again"), (401, "OPENAI_API_KEY"), (404, "check base_url and model")]
)
def test_an_http_error_says_the_status_the_place_the_row_and_what_to_do(
    server: ChatServer, status: int, hint: str
) -> None:
    server.always({"error": {"message": "no luck " + "x" * 1000}}, status)
    with pytest.raises(LLMRequestError) as caught:
        run(server.operator(), {"_i": 3, "q": "x"})
    message = str(caught.value)
    assert caught.value.status == status
    for part in (f"HTTP {status}", f"{server.base_url}/chat/completions", "row 3", "no luck", hint):
        assert part in message
    assert len(message) < 600


def test_a_redirect_is_not_followed_for_the_key_would_go_along(server: ChatServer) -> None:
    elsewhere = {"Location": f"{server.base_url}/elsewhere"}
    server.reply = lambda seen: Reply("", 307, headers=elsewhere)
    with pytest.raises(LLMRequestError, match=rf"HTTP 307 from .*it redirects to {server.base_url}/elsewhere"):
        run(server.operator(api_key="secret", max_retries=0), {"_i": 3, "q": "x"})
    assert [seen.path for seen in server.seen] == ["/v1/chat/completions"] * 2  # the call, and a ping


@pytest.mark.parametrize("body", ["<html>Welcome</html>", "", {"hello": "world"}, "[]", "null"])
def test_a_body_that_is_not_a_completion_is_an_error(server: ChatServer, body: Any) -> None:
    server.always(body)
    with pytest.raises(LLMRequestError, match=r"row 3 did not send a chat completion but: .* \(check base_url\)"):
        run(server.operator(), {"_i": 3, "q": "x"})


def test_a_server_that_is_not_there_is_an_error_that_says_so() -> None:
    operator = LLMOperator("{{ q }}", model="m", base_url="http://127.0.0.1:9/v1", max_retries=0, outage_after=0)
    with pytest.raises(LLMRequestError, match=r"connection failed: .*127\.0\.0\.1:9/v1") as caught:
        run(operator, {"_i": 2, "q": "x"})
    assert caught.value.status is None


def test_a_server_that_does_not_answer_in_time_is_an_error(server: ChatServer) -> None:
    hold = threading.Event()

    def wait(_seen: Any) -> Reply:
        hold.wait(10)
        return Reply(completion("late"))

    server.reply = wait
    with pytest.raises(LLMRequestError, match=r"no answer within 0\.2 s .*row 6"):
        run(server.operator(timeout=0.2), {"_i": 6, "q": "x"})
    hold.set()


def test_teardown_closes_every_connection(server: ChatServer) -> None:
    async def use() -> None:
        operator = server.operator()
        await operator.setup()
        calls = [operator.process_item({"_i": k, "q": "x"}, Context()) for k in range(12)]
        await asyncio.gather(*calls)
        assert server.connections > 0
        await operator.teardown()
        await operator.teardown()

    asyncio.run(use())
    assert server.wait_until_unconnected()


def test_an_operator_can_be_used_again_after_teardown_but_not_twice_at_once(server: ChatServer) -> None:
    async def use() -> None:
        operator = server.operator()
        with pytest.raises(LLMError, match="before setup"):
            await operator.process_item({"_i": 0, "q": "x"}, Context())
        await operator.setup()
        with pytest.raises(LLMError, match="in use by another node"):
            await operator.setup()
        await operator.teardown()
        assert await run_rows(operator, [{"_i": 0, "q": "x"}]) == [{"_i": 0, "q": "x", "answer": "yes"}]

    asyncio.run(use())


def test_the_engine_sees_an_async_operator_with_a_name() -> None:
    call = Call(LLMOperator("{{ q }}", model="m"))
    assert (call.is_async, call.batch) == (True, False)
    assert LLMOperator("{{ q }}", model="m").name == "LLMOperator"
    assert LLMOperator("{{ q }}", model="m", name="ask").name == "ask"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ""}, "model must be the name"),
        ({"prompt": "{{ q"}, "prompt is not a Jinja2 template: line 1"),
        ({"prompt": " "}, "prompt must be a text"),
        ({"base_url": "api.example.org"}, "base_url must start with"),
        ({"base_url": "https://me:hunter2@api.example.org"}, "base_url holds a user"),
        ({"n": 0}, "n must be a whole number"),
        ({"timeout": 0}, "timeout must be a positive"),
        ({"max_retries": -1}, "max_retries must be a whole number"),
        ({"max_repairs": -1}, "max_repairs must be a whole number"),
        ({"retry_wait": 0}, "retry_wait must be a positive"),
        ({"params": {"stream": True}}, "'stream'"),
        ({"params": {"x": object()}}, "params must be JSON"),
        ({"params": {"temperature": float("nan")}}, "params must be JSON"),
        ({"output": 3}, "output must be"),
        ({"output": "_i"}, "'_i'"),
        ({"output": "no.such.module:Name"}, "cannot be imported"),
        ({"output": {"type": "array"}}, "the elements of the list .* one column"),
        ({"output": {**SCHEMA, "dependentRequired": []}}, r"the schema is not valid at \$\.dependentRequired"),
        ({"examples": [{"item": {"q": "x"}, "answer": ""}]}, "does not fit the operator"),
        ({"examples": [{"item": {}, "answer": "a"}]}, "'q' is undefined"),
        ({"examples": ["a"]}, "an example must be"),
    ],
)
def test_a_wrong_argument_is_refused_at_construction(options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"prompt": "{{ q }}", "model": "m", **options}
    with pytest.raises(ConfigError, match=message) as caught:
        LLMOperator(arguments.pop("prompt"), **arguments)
    assert "hunter2" not in str(caught.value)


def test_every_error_is_a_datagen_error() -> None:
    for kind in (PromptError, LLMRequestError, LLMAnswerError):
        assert issubclass(kind, LLMError)
        assert issubclass(kind, DatagenError)
