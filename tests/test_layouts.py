"""The maps of packages: what a docstring calls its layout is what lies in the folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import llm_datagen

ROOT = Path(llm_datagen.__file__).parent
_ENTRY = re.compile(r"^ {4}([\w/]+(?:\.py|/)) +\S", re.MULTILINE)


def _maps() -> dict[str, str]:
    docstrings = {
        init.parent: ast.get_docstring(ast.parse(init.read_text())) or "" for init in ROOT.rglob("__init__.py")
    }
    return {str(folder.relative_to(ROOT)): text for folder, text in docstrings.items() if "\nLayout:" in text}


MAPS = _maps()


@pytest.mark.parametrize("package", sorted(MAPS))
def test_a_layout_names_every_module_and_nothing_else(package: str) -> None:
    """Who reads the package begins there."""
    text = MAPS[package]
    modules = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py", "__main__.py"}
    folders = {f"{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
    named = {name for name in modules if re.search(rf"\b{re.escape(name)}|`{name[:-3]}`", text)}
    assert modules - named == set()
    assert {name for name in folders if name not in text} == set()
    assert {name for name in _ENTRY.findall(text) if not (ROOT / package / name).exists()} == set()
