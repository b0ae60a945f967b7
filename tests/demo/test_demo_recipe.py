"""A recipe of examples/recipes on the real model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from llm_datagen.cli.demo.server import local_server

from ..kit.support import lines

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.mark.model
@pytest.mark.slow
def test_every_answer_of_a_recipe_keeps_to_its_schema(weights: Path, tmp_path: Path) -> None:
    name = "classify_with_judge"
    recipes = shutil.copytree(RECIPES, tmp_path / "recipes")
    data = recipes / "data" / "messages.jsonl"
    data.write_text("".join(data.read_text(encoding="utf-8").splitlines(keepends=True)[:3]), encoding="utf-8")
    with local_server(weights) as server:
        environment = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}
        done = subprocess.run(
            [sys.executable, "-W", "error", str(recipes / f"{name}.py")],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "'requests': 6," in done.stdout, "two calls a row, and none of them again"
    judged = lines(tmp_path / "tmp" / name / "node_1.jsonl")
    assert sorted(row["_i"] for row in judged) == list(range(3))
    operators = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))["operators"]
    for schema in (operators[0]["with"]["output"], operators[1]["with"]["output"]):
        for row in judged:
            jsonschema.validate({key: row[key] for key in schema["properties"]}, schema)
    kept = lines(tmp_path / "tmp" / "recipes" / f"{name}.jsonl")
    assert sorted(row["_i"] for row in kept) == sorted(row["_i"] for row in judged if row["verdict"] == "right")
