"""Messages as the conventions for generative AI have them."""

from __future__ import annotations

import json
from typing import Any

from llm_datagen.telemetry.gen_ai import input_messages


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
