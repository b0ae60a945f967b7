"""docs/architecture.md names every module at the root of the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import llm_datagen

from .pages import DOCS

MODULES = [
    path.stem
    for path in Path(llm_datagen.__file__).parent.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
]


@pytest.mark.parametrize("name", sorted(name for name in MODULES if not name.startswith("_")))
def test_a_module_is_in_the_map(name: str) -> None:
    page = DOCS / "architecture.md"
    layers = page.read_text(encoding="utf-8").partition("## Layers")[2].partition("\n## ")[0]
    assert re.search(rf"`{name}/?`", layers)
