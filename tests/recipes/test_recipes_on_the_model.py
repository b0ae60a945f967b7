"""Each recipe on the embedded model: it keeps to every schema, and no row is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from llm_datagen import Status
from llm_datagen.cli.demo.server import LocalServer, local_server
from llm_datagen.cli.recipes import recipe_names, recipe_text
from llm_datagen.cli.target import find_target
from llm_datagen.runs import RunFolder
from llm_datagen.runs.verify import verify

from ..demo.conftest import weights  # noqa: F401 - a fixture
from ..kit.support import lines


@pytest.fixture(scope="module")
def model(weights: Path) -> Iterator[LocalServer]:  # noqa: F811
    with local_server(weights) as server:
        yield server


SHORT = {"max_tokens": 200, "frequency_penalty": 0.5, "seed": 1}
"""Params for answers that come to an end."""


def made_small(name: str) -> dict[str, Any]:
    """Return a recipe with its first row, two of everything that it multiplies, and short answers."""
    recipe: dict[str, Any] = yaml.safe_load(recipe_text(name))
    for operator in recipe["operators"]:
        if operator["use"] == "ops.Cross":
            operator["with"] |= {column: values[:2] for column, values in operator["with"].items()}
        if operator["use"] == "ops.Loop":
            operator["with"] |= {"unmet": "keep", "max_rounds": 2}
        if operator["use"] == "llm.Judge":
            operator["with"]["params"] |= SHORT
        for settings in asking(operator):
            settings["n"] = min(2, settings.get("n", 1))
            settings["params"] = {**settings["params"], **SHORT}
            if isinstance(settings.get("output", ""), str):
                settings["params"]["stop"] = ["."]
    given = recipe["input"]
    return {**recipe, "input": given[:1] if isinstance(given, list) else {**given, "n": 1}}


def asking(operator: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of the operators in a node that ask a model."""
    within = operator["with"]["body"] if operator["use"] == "ops.Loop" else [operator]
    return [each["with"] for each in within if each["use"] == "llm.LLMOperator"]


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.sampled(0, of=len(recipe_names()))
@pytest.mark.parametrize("name", recipe_names())
def test_answers_keep_to_their_schemas_and_every_row_is_accounted_for(
    name: str, model: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", model.api_key)
    recipe = made_small(name)
    Path("small.yaml").write_text(yaml.safe_dump(recipe))
    report = find_target("small.yaml").create(None, "overwrite").run(progress=False)
    assert report.status is Status.COMPLETED
    assert report.failed == 0
    accounts = verify(RunFolder(Path("tmp/results"), name).load())
    assert [finding for account in accounts for finding in account.findings] == []
    asked = 0
    for number, operator in enumerate(recipe["operators"]):
        is_last = operator is recipe["operators"][-1]
        rows = lines(Path(f"{name}.jsonl" if is_last else f"tmp/{name}/node_{number}.jsonl"))
        if operator["use"] == "llm.Judge":
            asked += len(rows)
            assert all(label in operator["with"]["scale"] for row in rows for label in row["labels"])
        for settings in asking(operator):
            asked += len(rows)
            output = settings.get("output", "answer")
            schema = output.get("items", output) if isinstance(output, dict) else {"properties": {output: {}}}
            for row in rows:
                jsonschema.validate({column: row[column] for column in schema["properties"]}, schema)
    assert asked or name == "clean_dataset", "it asks nothing"
