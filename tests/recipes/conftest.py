"""Fixtures: a folder, and an endpoint, for recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_datagen.testing import FakeLLMServer

from .kit import Kitchen


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kitchen]:
    """A folder that is the current one, with a fake endpoint in the environment."""
    kitchen = Kitchen(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLM_DATAGEN_RESULTS", raising=False)
    with FakeLLMServer(answer=kitchen.answer, api_key="k") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        yield kitchen
