"""The recipes: in Python and in YAML they are the same pipeline, and run on the fake."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import RunReport, Status
from llm_datagen.cli.target import find_target
from llm_datagen.testing import FakeLLMServer

from ..kit.support import lines
from .pages import DOCS
from .shell import clean_environment

EXAMPLES = Path(__file__).parents[2] / "examples"
IN_YAML = sorted(path.stem for path in EXAMPLES.glob("recipes/*.yaml"))
RECIPES = [name for name in IN_YAML if name != "model_in_this_process"]
"""Those that ask an endpoint, and are there in Python, too. The other one: tests/llm/engines/test_llama.py"""


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in the root of a checkout, with the recipes to import."""
    shutil.copytree(EXAMPLES / "recipes", tmp_path / "examples" / "recipes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "examples" / "recipes"), *sys.path])
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL", "LLM_DATAGEN_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    for name in (*RECIPES, "endpoint"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def outcome(pipeline: Any, name: str) -> tuple[RunReport, list[dict[str, Any]]]:
    """Run a pipeline; return its report, and its rows by id."""
    report = pipeline.run()
    rows = sorted(lines(Path(f"tmp/recipes/{name}.jsonl")), key=lambda row: str(row["_i"]))
    return report, rows


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_makes_the_same_rows_in_python_and_in_yaml(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLMServer(api_key="k") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        module = importlib.import_module(name)
        nodes = {"node_configs": module.NODES} if hasattr(module, "NODES") else {}
        in_python, rows = outcome(module.pipeline().create(name, **nodes), name)
        asked = server.prompts
        target = find_target(f"examples/recipes/{name}.yaml")
        in_yaml, rows_of_yaml = outcome(target.create(None, "overwrite"), name)
        assert server.prompts == asked + asked
    assert in_python.status is in_yaml.status is Status.COMPLETED
    assert in_python.rows_out == len(rows)
    assert len(rows) >= 3
    assert rows_of_yaml == rows


@pytest.mark.slow
@pytest.mark.process
def test_a_recipe_in_yaml_is_run_by_one_command() -> None:
    command = [sys.executable, "examples/recipes/endpoint.py", "llm-datagen", "run", "examples/recipes/translate.yaml"]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a fake makes up the answers" in done.stderr
    assert len(lines(Path("tmp/recipes/translate.jsonl"))) == 8


def test_the_memory_of_self_instruct_leaves_out_near_duplicates_and_knows_after_a_crash_what_it_kept() -> None:
    only_new = importlib.import_module("self_instruct").OnlyNew

    class Context:
        folder = Path("files")

    tasks = [
        "Name three birds.",
        "Name three birds of the sea.",
        "Write a poem.",
        "name three birds.",
        "Name one seed of a bush.",
    ]
    rows = [
        {"_i": f"0_{number}", "seed": "Name one seed of a tree.", "task": task} for number, task in enumerate(tasks)
    ]
    for _ in range(2):  # the second time with the rows that the first process had not committed
        operator = only_new()
        kept = [row["task"] for row in rows if operator.process_item(row, Context()) is not None]
        assert kept == ["Name three birds.", "Name three birds of the sea.", "Write a poem."]
    assert only_new().process_item({"_i": "9", "seed": "", "task": "Write a poem."}, Context()) is None


def test_every_recipe_is_on_the_page() -> None:
    page = (DOCS / "how-to" / "start-from-a-recipe.md").read_text(encoding="utf-8")
    for name in RECIPES:
        assert f"recipes/{name}.py)" in page
    for name in IN_YAML:
        assert f"recipes/{name}.yaml)" in page
