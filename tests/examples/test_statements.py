"""Every statement that a test cites is in docs/internals, and every public name is in the reference of the API."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import llm_datagen
from llm_datagen import llm, testing

from .pages import DOCS

TESTS = DOCS.parent / "tests"
CITED = re.compile(r"\b[MSRCFH]\d{1,2}\b")
STATED = re.compile(r"^(?:- \*\*|\| )([MSRCFH]\d{1,2})\b", re.MULTILINE)
API = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")


def _stated() -> set[str]:
    pages = [DOCS / "internals" / name for name in ("statements.md", "pykka.md")]
    return {name for page in pages for name in STATED.findall(page.read_text(encoding="utf-8"))}


def test_the_statements_are_numbered_without_gaps() -> None:
    counts = {"M": 31, "S": 4, "R": 2, "C": 1, "F": 2, "H": 19}
    assert _stated() == {f"{kind}{number + 1}" for kind, count in counts.items() for number in range(count)}


def test_what_tests_cite_is_stated() -> None:
    stated = _stated()
    for file in TESTS.rglob("test_*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                unknown = set(CITED.findall(ast.get_docstring(node) or "")) - stated
                assert not unknown, f"{file.name}: {getattr(node, 'name', 'the module')} cites {sorted(unknown)}"


@pytest.mark.parametrize("name", llm_datagen.__all__)
def test_a_public_name_is_in_the_reference_of_the_api(name: str) -> None:
    value = getattr(llm_datagen, name)
    is_error = isinstance(value, type) and issubclass(value, Exception)
    whole = ("actors", "messages", "logs", "__version__")
    assert is_error or name in whole or f"::: llm_datagen.{name}\n" in API


def test_the_reference_of_the_api_names_what_is_there() -> None:
    for dotted in re.findall(r"^::: llm_datagen\.(\w+)\n", API, re.MULTILINE):
        assert dotted in {*llm_datagen.__all__, "errors", "testing"}, dotted
    for name in re.findall(r"^::: llm_datagen\.llm\.(\w+)\n", API, re.MULTILINE):
        assert name == "errors" or name in llm.__all__
    assert Path(testing.__file__).exists()
