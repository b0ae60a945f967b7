"""The public names: what the package hands out, the tree of errors, and old names that work for one release."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import llm_datagen
from llm_datagen import errors, llm, testing
from llm_datagen.llm import errors as llm_errors

BASES = (errors.ConfigError, errors.RunError, errors.OperatorError, errors.StreamError, llm.LLMError)
OTHERS = {errors.DatagenError, errors.DiskError, errors.StopRun}


def test_every_public_name_is_there() -> None:
    """M1: a name is imported from its module when it is asked for."""
    assert all(getattr(llm_datagen, name) is not None for name in llm_datagen.__all__)
    assert set(llm_datagen.__all__) <= set(dir(llm_datagen))
    with pytest.raises(AttributeError, match="module 'llm_datagen' has no attribute 'nothing'"):
        _ = llm_datagen.nothing


@pytest.mark.parametrize("package", ["config", "runs", "runs.logs", "streams"])
def test_every_name_of_a_package_is_where_it_says(package: str) -> None:
    """A name is imported when it is asked for, so a wrong module shows only then."""
    module = import_module(f"llm_datagen.{package}")
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module 'llm_datagen.{package}' has no attribute 'nothing'"):
        _ = module.nothing


@pytest.mark.process
def test_the_package_imports_little() -> None:
    """A worker process needs few of the names."""
    program = "import sys, llm_datagen; print(*sorted(name for name in sys.modules if name.startswith('llm_datagen.')))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert {name.split(".")[1] for name in shown.split()} == {"errors"}


def test_every_error_has_one_of_the_bases() -> None:
    """What a program catches: `RunError`, `OperatorError` and so on."""
    found = [
        value
        for module in (errors, llm_errors)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, errors.DatagenError)
    ]
    assert len(found) > 40
    assert {value for value in found if not issubclass(value, BASES)} == OTHERS


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (llm_datagen, "ImageError", errors.RunStateError),
        (llm_datagen, "ImageMismatchError", errors.OperatorMismatchError),
        (errors, "ImageError", errors.RunStateError),
        (errors, "ImageMismatchError", errors.OperatorMismatchError),
        (llm_errors, "JournalError", llm_errors.CacheError),
        (testing, "FaultyDisk", testing.FaultyStorage),
    ],
)
def test_an_old_name_is_an_alias_with_a_warning(module: object, old: str, new: type) -> None:
    """Programs of the release before go on."""
    with pytest.warns(DeprecationWarning, match=rf"{old} is {new.__name__} now") as caught:
        assert getattr(module, old) is new
    assert caught[0].filename == __file__


@pytest.mark.process
def test_a_package_that_has_moved_hands_out_what_it_imports_when_asked() -> None:
    """In a process of its own: here, other tests may have asked already."""
    program = (
        "from llm_datagen.logs import read; from llm_datagen.logs import *; print(read.__name__, RunSummary.__name__)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("read RunSummary\n", "")


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("audit", "runs.verify", "verify"),
        ("hooks", "runs.hooks", "IPipelineHooks"),
        ("log", "runs.logs.writer", "DEFAULT_LOG"),
        ("logs", "runs.logs", "read"),
        ("report", "runs.run_report", "RunReport"),
        ("routing", "pipeline.fan_out", "Route"),
    ],
)
def test_a_module_that_has_moved_is_found_with_a_warning(
    old: str, new: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`import llm_datagen.hooks` works for one release."""
    monkeypatch.delitem(sys.modules, f"llm_datagen.{old}", raising=False)
    with pytest.warns(DeprecationWarning, match=f"llm_datagen.{old} is llm_datagen.{new} now"):
        moved = import_module(f"llm_datagen.{old}")
    assert getattr(moved, name) is getattr(import_module(f"llm_datagen.{new}"), name)
    sys.modules.pop(f"llm_datagen.{old}")
    vars(llm_datagen).pop(old)
