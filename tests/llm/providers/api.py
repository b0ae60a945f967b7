"""What an API is: the requests that it is sent, and the answers and failures that it sends, in shapes of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
SENT_SCHEMA = {**SCHEMA, "additionalProperties": False}
"""How the schema is sent."""
JSON = '{"mood": "good"}'
IMAGE_DATA = "/9j/4A=="
IMAGE = f"data:image/jpeg;base64,{IMAGE_DATA}"
WEB_IMAGE = "https://example.org/cat.png"
KEY = "canary-5d41402abc4b2a76b9719d911017c592"
WAIT = 7.0
"""Seconds that a rate limit asks to wait."""
TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Looks it up.", "parameters": {"type": "object"}},
}
TOOL_TURNS = [
    {"role": "user", "content": "Where?"},
    {
        "role": "assistant",
        "content": "Hm.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "x"}'}},
            {"id": "c2", "type": "function", "function": {"name": "look_up", "arguments": "{}"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "Here."},
    {"role": "tool", "tool_call_id": "c2", "content": "There."},
    {"role": "user", "content": "Sure?"},
]
"""Messages of a row, as chat completions have them."""

CASES = {
    "text": "texts, and turns of several roles",
    "tool_turns": "calls of tools and their results, in the messages of a row",
    "image": "images of the row, sent along",
    "web_image": "images by their URL",
    "schema": "answers to a schema, by the API's own means",
    "schema_refused": "a model that refuses a schema by name is asked in another way",
    "schema_by_tool": "answers to a schema, as the arguments of a tool",
    "tool_calls": "tools are offered, and calls of them become a column",
    "tools": "calls of tools are executed; their results are sent, with the thoughts that the API wants back",
    "reasoning": "thoughts become a column",
    "cached": "tokens that came from the provider's cache are counted",
    "reasoning_tokens": "tokens of thoughts are counted",
    "cut_off": "an answer that was cut off fails the row",
    "refusal": "a refusal of the model fails the row",
    "filtered_answer": "an answer that a filter held back fails the row",
    "filtered_prompt": "a prompt that a filter refused fails the row",
    "empty": "an empty answer fails the row",
    "rate_limit": "a rate limit is waited for, as long as the API asks",
    "overload": "an overloaded API is asked again",
    "bad_request": "a bad request fails at once",
    "too_long": "a prompt that is too long fails at once, and is named as that",
    "wrong_key": "a wrong key ends the run, and the error names its variable",
    "unknown_model": "an unknown model ends the run",
    "no_answer": "a body without an answer is asked for again",
    "stream": "answers are streamed",
    "seed": "a seed is sent",
    "several": "several answers come by one request",
}
"""What is tried with each API, by name."""


@dataclass(frozen=True)
class Sent:
    """A response.

    Attributes:
        body: JSON data.
        status: the HTTP status.
        headers: of the response.
    """

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Api:
    """An API.

    Attributes:
        adapter: its name in `LLMOperator`.
        title: its name for people.
        base: what follows the server's origin in its URL.
        url_env: the environment variable of the URL.
        url_note: what else there is to say of it.
        key_env: that of the key.
        model: the model that is asked.
        path: where calls to it go, with a query.
        key_header: the header of the key, and its value.
        url: the provider's own URL of a call, by which prices are found; "" for a server of one's own.
        priced: a model that genai-prices knows there.
        request: the body of the request of a whole conversation, without the image.
        tool_turns: `TOOL_TURNS`, as they are sent.
        image: the part of the image.
        web_image: the part of an image on the web.
        schema: fields of the body, by which a schema is sent.
        tool: fields of the body, by which a tool is offered that has to be called.
        answer: the response with the text "yes", its usage (27 tokens of prompt, 20 of them from the cache where the
            API says so; 13 of the answer, 8 of them thoughts where it says so) and thoughts where it sends them.
        structured: the same with `JSON` for a text.
        call: the response that calls the tool `look_up`, with ``{"q": "x"}``.
        calls: what becomes of that in a column.
        thoughtful_call: such a response with thoughts that the API wants back.
        round: the messages that follow it, up to the result ``found x``.
        tool_answer: the response that calls the tool of a schema with what is in `JSON`.
        usage: what is reported of `answer`.
        stream: the bytes of the events of an answer, by its body.
        stream_type: the content type of those.
        stream_path: where calls go whose answers are streamed.
        stream_fields: what the body of those calls has beside the others.
        seed: where a seed stands in the body.
        several: the response with the texts "yes" and "no", and where their number stands in the body.
        failures: the responses of other cases, by their names.
        lacks: cases that the API has nothing for, by their names, and why.
    """

    adapter: str
    title: str
    base: str = ""
    url_env: str
    url_note: str = ""
    key_env: str
    model: str = "m-1"
    path: str
    key_header: tuple[str, str]
    url: str = ""
    priced: str = ""
    request: Mapping[str, Any]
    tool_turns: list[Any]
    image: Any
    web_image: Any = None
    schema: Mapping[str, Any]
    tool: Mapping[str, Any] = field(default_factory=dict)
    answer: Sent
    structured: Sent
    call: Sent
    calls: Any
    thoughtful_call: Sent
    round: list[Any]
    tool_answer: Sent | None = None
    usage: Mapping[str, int]
    stream: Callable[[Any], bytes]
    stream_type: str = "text/event-stream"
    stream_path: str
    stream_fields: Mapping[str, Any]
    seed: tuple[str, ...] = ("seed",)
    several: tuple[Sent, tuple[str, ...]] | None = None
    failures: Mapping[str, Sent]
    lacks: Mapping[str, str] = field(default_factory=dict)
