"""Dependencies are bounded on both sides, and the lock file fits the bounds: an install works today and next year."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMED = {*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)}
WANTED = [requirement for text in sorted(NAMED) if (requirement := Requirement(text)).name != PROJECT["name"]]


def pins(text: str) -> dict[str, str]:
    """Return the versions by package of a file of constraints, in which there is nothing else."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


LOCKED = pins((ROOT / "constraints.txt").read_text())


@pytest.mark.parametrize("requirement", WANTED, ids=lambda requirement: requirement.name)
def test_a_dependency_has_both_bounds_and_its_locked_version_lies_between(requirement: Requirement) -> None:
    """A new dependency stands in constraints.txt, too: `.ci/lock` writes it."""
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators == {"=="} or operators >= {">=", "<"}
    assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)])


@pytest.mark.process
def test_the_lowest_versions_are_those_of_the_bounds() -> None:
    told = subprocess.run([sys.executable, ROOT / ".ci" / "lowest"], capture_output=True, text=True, check=True)
    lowest = pins(told.stdout)
    assert lowest.keys() == {canonicalize_name(requirement.name) for requirement in WANTED}
    for requirement in WANTED:
        assert requirement.specifier.contains(lowest[canonicalize_name(requirement.name)])
