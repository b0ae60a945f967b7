"""The environment in which examples and documented programs run."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def clean_environment() -> dict[str, str]:
    """Return the environment without what would point a program elsewhere: no endpoint, no key, no results folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LLM_DATAGEN_"))}
    here = str(Path(sys.executable).parent)
    return kept | {"PATH": f"{here}{os.pathsep}{kept.get('PATH', '')}", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
