"""Fixtures: the real model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llm_datagen.llm.engines.embedded.errors import LocalModelError
from llm_datagen.llm.engines.embedded.weights import fetch_weights


@pytest.fixture(scope="session")
def weights() -> Path:
    """The real weights: fetched on first use. Without them the tests are skipped here, and fail in CI."""
    try:
        return fetch_weights()
    except LocalModelError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no model: {error}")
