"""Fixtures: OpenTelemetry in memory, a chat server, and a collector that decodes what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.shell import Shell
from ..llm.chat_server import ChatServer, serve
from .collector import Collector
from .in_memory import InMemory


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing in the environment that tells OpenTelemetry what to do."""
    for name in ("TRACEPARENT", "TRACESTATE", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A folder with operators and an input."""
    return Shell(tmp_path)


@pytest.fixture
def memory() -> InMemory:
    """Providers that keep all spans and metrics."""
    return InMemory()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A chat server."""
    chat = ChatServer()
    http = serve(chat)
    yield chat
    http.shutdown()
    http.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of OTLP over HTTP."""
    with Collector() as found:
        yield found
