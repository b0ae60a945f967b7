"""Fixtures: a chat server for each test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_datagen.llm.batch import asking, node_jobs
from llm_datagen.llm.limits import shared

from .chat_server import ChatServer, serve


@pytest.fixture(autouse=True)
def _no_limiter_of_another_test() -> None:
    """Forget what endpoints have said: limiters outlive their servers, and a port may come again."""
    shared._limiters.clear()


@pytest.fixture
def quick_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have jobs of batch APIs looked at again and again, without pauses to speak of."""
    monkeypatch.setattr(node_jobs, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(node_jobs, "QUIET_SECONDS", 0.03)
    monkeypatch.setattr(asking, "FIRST_PAUSE", 0.01)


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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine that nobody knows, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    try:
        subprocess.run(
            [*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=folder, check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs openssl")
    return folder / "cert.pem", folder / "key.pem"
