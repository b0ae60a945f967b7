"""What comes beside the text of an answer becomes columns, where they are named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMAnswerError, LLMOperator

from .chat_server import ChatServer, completion, run_rows

ROW = {"_i": 0, "q": "x"}
CALLS = [{"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}]
TOOLS = {"tools": [{"type": "function", "function": {"name": "look"}}]}


def body(finish_reason: str = "stop", logprobs: Any = None, **message: Any) -> dict[str, Any]:
    made: dict[str, Any] = completion(message.get("content"), finish_reason=finish_reason)
    made["choices"][0]["message"].update(message)
    made["choices"][0]["logprobs"] = logprobs
    return made


def run(operator: LLMOperator) -> Any:
    (row,) = asyncio.run(run_rows(operator, [ROW]))
    return row


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "reasoning_content": "hm"},
        {"content": "a", "reasoning": "hm"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "a"},
            ]
        },
    ],
)
def test_reasoning_and_logprobs_become_columns_also_from_the_cache(
    server: ChatServer, tmp_path: Path, message: dict[str, Any]
) -> None:
    server.always(body(logprobs={"content": [{"token": "a", "logprob": -0.5}]}, **message))
    columns = {"reasoning": "thoughts", "logprobs": "how_sure", "tool_calls": "calls"}
    for _ in range(2):
        row = run(server.operator(extra_columns=columns, cache=str(tmp_path / "cache")))
        assert row == {
            **ROW,
            "answer": "a",
            "thoughts": "hm",
            "how_sure": {"content": [{"token": "a", "logprob": -0.5}]},
            "calls": None,
        }
    assert len(server.seen) == 1


def test_an_answer_that_calls_tools_is_data_where_they_have_a_column(server: ChatServer, tmp_path: Path) -> None:
    server.always(body("tool_calls", content=None, tool_calls=CALLS))
    for _ in range(2):
        row = run(server.operator(extra_columns={"tool_calls": "calls"}, params=TOOLS, cache=str(tmp_path / "cache")))
        assert row == {**ROW, "answer": None, "calls": CALLS}
    assert len(server.seen) == 1
    with pytest.raises(LLMAnswerError, match=r"has no text \(finish_reason 'tool_calls'\): name a column"):
        run(server.operator(params=TOOLS))


def test_an_answer_that_calls_tools_without_being_offered_any_is_none(server: ChatServer) -> None:
    server.always(body("tool_calls", content=None, tool_calls=CALLS))
    with pytest.raises(LLMAnswerError, match="a tool that nobody offered"):
        run(server.operator(extra_columns={"tool_calls": "calls"}))


def test_a_refusal_is_none_whatever_has_a_column(server: ChatServer) -> None:
    server.always(body(content=None, refusal="no"))
    with pytest.raises(LLMAnswerError, match="is a refusal by the model"):
        run(server.operator(extra_columns={"reasoning": "thoughts"}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"thoughts": "t"}, "a dict from reasoning, tool_calls, logprobs, messages to columns"),
        (["reasoning"], "a dict from reasoning"),
        ({"reasoning": "_r"}, "do not start with '_', not '_r'"),
        ({"reasoning": ""}, "must name columns"),
        ({"reasoning": "answer"}, "'answer' of extra_columns is filled already"),
        ({"reasoning": "r", "logprobs": "r"}, "'r' of extra_columns is filled already"),
    ],
)
def test_extra_columns_that_cannot_be_are_refused(columns: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMOperator("hi", model="m", extra_columns=columns)
