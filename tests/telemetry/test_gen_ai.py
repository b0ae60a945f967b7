"""Messages as the conventions for generative AI have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_datagen.llm.finish_reasons import ending_of
from llm_datagen.runs.model_calls import ModelAnswer
from llm_datagen.telemetry.gen_ai import input_messages, output_messages


def test_calls_of_tools_in_the_messages_of_a_row_are_told() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "Where?"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": None, "tool_calls": [call, "broken"]},
        {"role": "tool", "tool_call_id": "c1", "content": "Here."},
    ]
    assert json.loads(input_messages(messages)) == [
        {"role": "user", "parts": [{"type": "text", "content": "Where?"}, {"type": "image_url"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "c1", "name": "look_up", "arguments": '{"q": "x"}'},
                {"type": "tool_call"},
            ],
        },
        {"role": "tool", "parts": [{"type": "text", "content": "Here."}]},
    ]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("end_turn", "stop"), ("STOP", "stop"), (None, "stop"), ("MAX_TOKENS", "length"), ("tool_use", "tool_call"),
        ("SAFETY", "content_filter"), ("refusal", "content_filter"), ("error", "error"), ("a new word", "a new word"),
    ],
)  # fmt: skip
def test_the_end_of_an_answer_has_one_word_whatever_the_api_calls_it(word: str | None, told: str) -> None:
    answer = ModelAnswer(model="m", text="yes", finish_reason=word, ending=str(ending_of(word)), usage={})
    assert json.loads(output_messages(answer)) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "yes"}], "finish_reason": told}
    ]
