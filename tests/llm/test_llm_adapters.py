"""Other providers: Anthropic's API, and adapters of one's own, against a real HTTP server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import (
    ChatAdapter,
    ChatRequest,
    LLMAnswerError,
    LLMOperator,
    LLMRequestError,
    OpenAIAdapter,
    OutageError,
    PromptError,
    Reply,
)
from llm_datagen.operators.arguments import given_arguments

from .chat_server import ChatServer, Context, Seen, run_rows
from .chat_server import Reply as Sent

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
JPEG = "data:image/jpeg;base64,/9j/4A=="


def test_a_run_state_of_an_older_version_that_names_an_adapter_where_it_was_is_read() -> None:
    """`LLMOperator(adapter=OpenAIAdapter)` is stored as the place of the class."""
    stored = {"with": {"adapter": {"$name": "llm_datagen.llm.http.adapters:OpenAIAdapter"}}}
    assert given_arguments(stored) == ([], {"adapter": OpenAIAdapter})
    with pytest.raises(ConfigError, match=r"^llm_datagen\.llm\.http\.adapters has no 'Nothing'"):
        given_arguments({"args": [{"$name": "llm_datagen.llm.http.adapters:Nothing"}]})


def run(operator: Any, *items: Any, ctx: Context | None = None) -> list[Any]:
    return asyncio.run(run_rows(operator, list(items), ctx))


def messages_api(text: str = '{"mood": "good"}', reason: str = "end_turn", **usage: int) -> Any:
    """Answer as Anthropic does, and refuse what it refuses."""

    def reply(seen: Seen) -> Sent:
        body = seen.body
        roles = [message["role"] for message in body["messages"]]
        if seen.headers.get("x-api-key") != "secret":
            return Sent(
                {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}, 401
            )
        known = {"model", "max_tokens", "messages", "system", "temperature", "stop_sequences", "output_config"}
        if (
            "anthropic-version" not in seen.headers
            or not isinstance(body.get("max_tokens"), int)
            or set(roles) - {"user", "assistant"}
            or set(body) - known
            or seen.path != "/v1/messages"
        ):
            return Sent({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, 400)
        content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]
        counts = {"input_tokens": 7, "output_tokens": 3, **usage}
        return Sent(
            {"type": "message", "role": "assistant", "content": content, "stop_reason": reason, "usage": counts}
        )

    return reply


@pytest.fixture
def claude(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> ChatServer:
    """A server of the Messages API, which the environment names."""
    server.reply = messages_api()
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url.removesuffix("/v1"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    return server


def test_the_messages_api_is_spoken(claude: ChatServer) -> None:
    claude.reply = messages_api(cache_read_input_tokens=20)
    params = {"temperature": 0, "stop": "END", "max_completion_tokens": 50}
    prompt: list[dict[str, Any]] = [
        {"role": "system", "content": "Be {{ how }}."},
        {"role": "user", "content": "{{ q }}", "images": ["{{ photos | join('\n') }}"]},
        {"role": "assistant", "content": "Well"},
    ]
    operator = LLMOperator(prompt, model="claude", adapter="anthropic", output=SCHEMA, params=params)
    ctx = Context()
    row = {"_i": 0, "q": "How?", "how": "kind", "photos": ["https://example.org/1.png", JPEG]}
    assert run(operator, row, ctx=ctx) == [{**row, "mood": "good"}]
    assert claude.seen[0].body == {
        "model": "claude",
        "max_tokens": 50,
        "temperature": 0,
        "stop_sequences": ["END"],
        "system": [{"type": "text", "text": "Be kind."}],
        "output_config": {"format": {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}}},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "How?"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.org/1.png"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4A=="}},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "Well"}]},
        ],
    }
    used = {"prompt_tokens": 27, "completion_tokens": 3, "total_tokens": 30, "cached_tokens": 20}
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "claude", "requests": 1, **used}]


def test_what_the_messages_api_refuses_or_withholds_is_an_error(claude: ChatServer, monkeypatch: Any) -> None:
    def operator(**options: Any) -> LLMOperator:
        return LLMOperator("{{ q }}", model="claude", adapter="anthropic", max_retries=0, outage_after=0, **options)

    for reason, message in {"max_tokens": "cut off", "refusal": "a refusal by the model"}.items():
        claude.reply = messages_api(reason=reason)
        with pytest.raises(LLMAnswerError, match=message):
            run(operator(), {"_i": 0, "q": "x"})
    assert claude.seen[0].body["max_tokens"] == 4096
    with pytest.raises(LLMRequestError, match=r"HTTP 400 .*/v1/messages, row 0"):
        run(operator(params={"seed": 1}), {"_i": 0, "q": "x"})
    claude.always({"type": "error", "error": {"type": "overloaded_error"}}, 529)
    with pytest.raises(OutageError, match="HTTP 529"):
        run(operator(), {"_i": 0, "q": "x"})
    claude.reply = messages_api()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "wrong")
    with pytest.raises(LLMRequestError, match="check api_key, or the environment variable ANTHROPIC_API_KEY"):
        run(operator(), {"_i": 0, "q": "x"})
    held = [{"role": "tool", "content": "7", "tool_call_id": "a"}]
    with pytest.raises(PromptError, match="row 4 has a message of a tool, and no call before it"):
        run(LLMOperator([{"placeholder": "m"}], model="claude", adapter="anthropic"), {"_i": 4, "m": held})


class Shouting(ChatAdapter):
    """An API that nobody has."""

    def path(self, model: str) -> str:
        return f"/{model}:shout"

    def headers(self, api_key: str | None) -> Mapping[str, str]:
        return {"Key": api_key or "none"}

    def body(self, request: ChatRequest) -> Mapping[str, Any]:
        return {"say": [message["content"] for message in request.messages], **request.params}

    def read(self, data: Any) -> Reply:
        return Reply(text=data["shout"])


@pytest.mark.parametrize("adapter", [Shouting, Shouting(), f"{__name__}:Shouting"], ids=["class", "instance", "path"])
def test_an_adapter_of_ones_own_speaks_to_its_provider(server: ChatServer, adapter: Any, tmp_path: Path) -> None:
    server.always({"shout": "HEY"})
    operator = server.operator(adapter=adapter, api_key="k", params={"loud": True}, cache=str(tmp_path / "cache"))
    row = {"_i": 0, "q": "hey"}
    assert run(operator, row, row) == [{**row, "answer": "HEY"}] * 2
    (seen,) = server.seen
    assert (seen.path, seen.headers["key"], "authorization" in seen.headers) == ("/v1/tiny:shout", "k", False)
    assert json.dumps(seen.body) == '{"say": ["hey"], "loud": true}'
    for body in ({}, {"shout": 3}, "[]", "x"):
        server.always(body)
        with pytest.raises(LLMRequestError, match="row 0 did not send a chat completion") as caught:
            run(server.operator(adapter=adapter), row)
        assert isinstance(caught.value, OutageError)
    server.always({}, 503)
    with pytest.raises(LLMRequestError, match="HTTP 503") as caught:
        run(server.operator(adapter=adapter), row)
    assert isinstance(caught.value, OutageError)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("gopher", "adapter must be 'openai', 'openai-responses', .* or 'module:Name', not 'gopher'"),
        ("no.such.module:Name", "adapter 'no.such.module:Name' cannot be imported"),
        (int, "is not a ChatAdapter: inherit from"),
        (None, "is not a ChatAdapter"),
        (ChatServer.always, "is not a ChatAdapter"),
        (Seen, "cannot be made"),
        (type("Half", (Shouting,), {"read": ChatAdapter.read}), "cannot be made: .* abstract .*read"),
        (Shouting, "base_url must start with http"),
    ],
)
def test_a_wrong_adapter_is_refused_at_construction(adapter: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LLMOperator("hi", model="m", adapter=adapter)
