"""The tiers hold: each listed file is there, and no case passes without having tested anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .kit.programs import Program
from .kit.tiers import PROCESS, TESTS, UNIT, nothing_started

NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def test_the_files_of_the_tiers_are_there() -> None:
    assert [name for name in sorted(UNIT | PROCESS) if not (TESTS / name).is_file()] == []
    assert not UNIT & PROCESS


def test_a_unit_test_can_start_no_program() -> None:
    with nothing_started(), pytest.raises(AssertionError, match="starts no thread and no process"):
        Program(["-c", "pass"])


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """Return what is in a function, in order, without the functions and classes within it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, NESTED):
            yield child
            yield from _own(child)


def _returns_untested(test: ast.AST) -> Iterator[int]:
    """Return the lines of a test where it ends though nothing was asserted before."""
    for node in _own(test):
        if isinstance(node, ast.Assert) or (isinstance(node, ast.With) and "raises" in ast.unparse(node.items[0])):
            return
        if isinstance(node, ast.Return):
            yield node.lineno


@pytest.mark.slow
def test_no_case_returns_before_it_has_tested_anything() -> None:
    """A case that is not wanted is not in the parameters, or is skipped with a reason, which is counted."""
    found = []
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, NESTED[:2]) and node.name.startswith("test_"):
                found += [f"{Path(path).relative_to(TESTS)}:{line}" for line in _returns_untested(node)]
    assert found == []
