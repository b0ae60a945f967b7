"""The JSON Schema of pipeline files takes and refuses what the loader does, and all that is shown is valid."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from llm_datagen import ConfigError
from llm_datagen.cli.yaml_load import Document
from llm_datagen.cli.yaml_nodes import GRAPH, NODE
from llm_datagen.cli.yaml_parts import OPERATOR
from llm_datagen.cli.yaml_schema import file_schema
from llm_datagen.cli.yaml_spec import PIPELINE, read_spec

from ..examples.pages import DOCS, blocks_of
from .conftest import Command

ROOT = DOCS.parent
SCHEMA = Draft7Validator(file_schema())
LINE: dict[str, Any] = {"operators": [{"use": "a:b"}], "input_uri": "i.jsonl", "output_uri": "o.jsonl"}
NODES: dict[str, Any] = {"nodes": {"a": {"use": "a:b", "from": "input", "to": "output"}}, **LINE}
del NODES["operators"]
VALUES = [0, 1, -1, 0.5, -0.5, 7.0, True, None, "", "x", "fail", "path", "jsonl://", [], [1], ["x"], {}, {"a": 1}]
FILES = sorted([*ROOT.glob("examples/**/*.yaml"), *(ROOT / "src").rglob("*.yaml")])
BLOCKS = [
    pytest.param(block.text, id=f"{page.relative_to(DOCS)}:{block.line}")
    for page in (*sorted(DOCS.rglob("*.md")), ROOT / "README.md")
    for block in blocks_of(page)
    if block.language == "yaml" and {"operators", "nodes"} & set(yaml.safe_load(block.text) or ())
]


def is_read(content: dict[str, Any]) -> bool:
    """Return whether the loader takes a file that says this."""
    try:
        read_spec(Document(path=Path("p.yaml"), content=content))
    except ConfigError:
        return False
    return True


def test_the_schema_is_one_is_printed_and_is_shipped(command: Command) -> None:
    """``python -m tests.examples.generated`` writes the file."""
    Draft7Validator.check_schema(file_schema())
    assert json.loads(command("schema").stdout) == file_schema()
    shipped = files("llm_datagen.cli").joinpath("pipeline.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == file_schema(), "write it anew: python -m tests.examples.generated"


@pytest.mark.parametrize("text", [*(pytest.param(path.read_text(), id=path.name) for path in FILES), *BLOCKS])
def test_what_is_shown_is_valid(text: str) -> None:
    content = {**({} if "nodes:" in text else LINE), **yaml.safe_load(text)}  # a page may show the operators alone
    assert [error.message for error in SCHEMA.iter_errors(content)] == []
    assert is_read(content)


def test_there_are_examples() -> None:
    assert len(FILES) >= 7
    assert len(BLOCKS) >= 2


def _places() -> list[Any]:
    """Return each key that a file may have, with a file and where in it the key stands."""
    found = []
    for start, path, model in (
        (LINE, [], PIPELINE),
        (LINE, ["operators", 0], OPERATOR),
        (NODES, [], GRAPH),
        (NODES, ["nodes", "a"], NODE),
    ):
        for name, field in model.model_fields.items():
            key = field.alias or name
            found.append(pytest.param(start, path, key, id=f"{'.'.join(map(str, path))} {key}"))
    return found


def changed(start: dict[str, Any], path: list[Any], key: str, value: Any) -> dict[str, Any]:
    """Return a file in which a key is something else."""
    content = copy.deepcopy(start)
    place: Any = content
    for step in path:
        place = place[step]
    place[key] = value
    return content


@pytest.mark.sampled(40)
@pytest.mark.parametrize(("start", "path", "key"), _places())
def test_a_misspelt_key_is_refused_by_both_and_a_value_that_is_read_is_valid(
    start: dict[str, Any], path: list[Any], key: str
) -> None:
    """The schema is never stricter than the loader; where it is less strict, the loader says what is wrong."""
    assert is_read(start)
    assert SCHEMA.is_valid(start)
    misspelt = changed(start, path, f"{key}x", 1)
    assert not is_read(misspelt)
    assert not SCHEMA.is_valid(misspelt)
    taken = [value for value in VALUES if is_read(changed(start, path, key, value))]
    assert [value for value in taken if not SCHEMA.is_valid(changed(start, path, key, value))] == []


@pytest.mark.parametrize(
    ("start", "path", "key", "value"),
    [
        (LINE, [], "batch_size", 0),
        (LINE, [], "grace", 0),
        (LINE, [], "retries", -1),
        (LINE, [], "streaming", "yes"),
        (LINE, [], "on_error", "shrug"),
        (LINE, [], "input_uri", None),
        (LINE, [], "operators", []),
        (LINE, [], "operators", "ops:odd"),
        (LINE, [], "writer_config", {"fsink": 1}),
        (LINE, [], "log_file", {"pth": "x"}),
        (LINE, ["operators", 0], "use", 5),
        (LINE, ["operators", 0], "with", 3),
        (LINE, ["operators", 0], "from", "input"),
        (NODES, [], "nodes", {}),
        (NODES, [], "nodes", []),
        (NODES, [], "keep_ids", True),
        (NODES, [], "batch_by", "parent"),
        (NODES, ["nodes", "a"], "from", []),
        (NODES, ["nodes", "a"], "from", None),
        (NODES, ["nodes", "a"], "from", {"x": 1}),
        (NODES, ["nodes", "a"], "to", []),
        (NODES, ["nodes", "a"], "to", {"x": 1}),
        (NODES, ["nodes", "a"], "to", [True]),
        (NODES, ["nodes", "a"], "route", {"use": "a:b", "name": "x"}),
        (NODES, ["nodes", "a"], "ids", "none"),
        (NODES, ["nodes", "a"], "data_config", {"nan": "zero"}),
    ],
)
def test_what_is_wrong_is_refused_by_both(start: dict[str, Any], path: list[Any], key: str, value: Any) -> None:
    content = changed(start, path, key, value)
    assert not is_read(content)
    assert not SCHEMA.is_valid(content)


def test_rows_in_the_file_stand_for_an_input() -> None:
    rows = {**LINE, "input": [{"n": 1}]}
    del rows["input_uri"]
    for content, wanted in ((rows, True), ({key: rows[key] for key in ("operators", "output_uri")}, False)):
        assert (is_read(content), SCHEMA.is_valid(content)) == (wanted, wanted)


def test_an_editor_completes_operators_and_rules() -> None:
    parts = file_schema()["$defs"]
    operators, rules = (parts[name]["properties"]["use"]["anyOf"][0]["enum"] for name in ("NodePart", "UsePart"))
    assert {"llm.LLMOperator", "ops.Keep"} <= set(operators)
    assert rules == ["ops.RouteBy", "ops.RouteWhen"]
    assert parts["NodePart"]["properties"]["retries"] == {
        "description": "how often a call that raised is made again first, for the same rows (calls)",
        "type": "integer",
        "minimum": 0,
        "default": 0,
    }
