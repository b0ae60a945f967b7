"""The key: where it comes from, and that it shows nowhere (M28)."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest

from llm_datagen.errors import ConfigError
from llm_datagen.llm import LLMOperator, LLMRequestError

from .chat_server import ChatServer, Context, run_rows

CANARY = "sk-canary-1234567890"


def test_the_key_is_sent_from_the_argument_or_else_from_the_environment(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"_i": 0, "q": "x"}]
    asyncio.run(run_rows(server.operator(), rows))
    monkeypatch.setenv("OPENAI_API_KEY", "from-env")
    asyncio.run(run_rows(server.operator(), rows))
    asyncio.run(run_rows(server.operator(api_key="from-argument"), rows))
    monkeypatch.setenv("MY_KEY", "from-a-name")
    asyncio.run(run_rows(server.operator(api_key_env="MY_KEY"), rows))
    sent = [seen.headers.get("authorization") for seen in server.seen]
    assert sent == [None, "Bearer from-env", "Bearer from-argument", "Bearer from-a-name"]


def test_the_endpoint_comes_from_the_environment_or_is_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "https://api.openai.com/v1/chat/completions" in repr(LLMOperator("hi", model="m"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1234/v1/")
    assert "'http://localhost:1234/v1/chat/completions'" in repr(LLMOperator("hi", model="m"))


def test_the_key_is_in_no_repr_log_line_or_error(server: ChatServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ctx = Context()
    operator = server.operator(api_key=CANARY)
    shown = [repr(operator), repr(vars(operator))]

    def ask() -> None:
        asyncio.run(run_rows(operator, [{"_i": 0, "q": "x"}], ctx))

    ask()
    bad_bodies: list[Any] = [{"error": f"Incorrect API key provided: {CANARY}"}, f"<p>{CANARY}", "nothing"]
    for status in (200, 401, 500):
        for body in bad_bodies:
            server.always(body, status)
            with pytest.raises(LLMRequestError) as caught:
                ask()
            shown += traceback.format_exception(caught.value)
            shown += [repr(caught.value), repr(vars(caught.value)), repr(caught.value.__cause__)]
    assert server.seen[0].headers["authorization"] == f"Bearer {CANARY}"
    assert "***" in "".join(shown)
    assert CANARY not in "".join(shown) + caplog.text + "".join(ctx.lines) + repr(ctx.usage)


@pytest.mark.parametrize("key", ["sk-\nx", "sk-kéy"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigError, match="characters that cannot be sent") as caught:
        LLMOperator("hi", model="m", api_key=key)
    assert "sk-" not in str(caught.value)


def test_a_key_with_a_newline_at_its_end_is_trimmed(server: ChatServer) -> None:
    asyncio.run(run_rows(server.operator(api_key="abc\n"), [{"_i": 0, "q": "x"}]))
    assert server.seen[0].headers["authorization"] == "Bearer abc"
