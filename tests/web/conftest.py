"""Fixtures: nothing is left of a server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llm_datagen.web import go_on

from ..kit.support import PATIENCE_SECONDS, nothing_left
from ..llm.chat_server import ChatServer, serve


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Each test leaves nothing behind, and no process that the page has started."""
    with nothing_left():
        yield
        for process in go_on._started:
            process.wait(PATIENCE_SECONDS)
        go_on._started.clear()


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A model's endpoint."""
    server = ChatServer()
    http = serve(server)
    yield server
    http.shutdown()
    http.server_close()
