"""Fixtures: OpenTelemetry in memory, a chat server, and a collector that decodes what it gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.shell import Shell
from ..kit.support import eventually
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
    """A collector of OTLP over HTTP. It answers until nobody sends any more: exporters would go on in later tests."""
    before = set(threading.enumerate())

    def sending() -> list[threading.Thread]:
        after = set(threading.enumerate()) - before
        return [each for each in after if each.name.startswith(("Otel", "datagen-telemetry"))]

    with Collector() as found:
        yield found
        found.status = 200
        found.go.set()
        eventually(lambda: not sending(), "exporters have ended")
