"""Fixtures: a chat server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_datagen.llm.limits import shared

from .chat_server import ChatServer, serve


@pytest.fixture(autouse=True)
def _no_limiter_of_another_test() -> None:
    """Forget what endpoints have said: limiters outlive their servers, and a port may come again."""
    shared._limiters.clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A server, and an environment without anybody's key."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    chat = ChatServer()
    http = serve(chat)
    yield chat
    http.shutdown()
    http.server_close()
