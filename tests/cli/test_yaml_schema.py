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

from llm_datagen import ConfigError, ops
from llm_datagen.cli.target import find_target
from llm_datagen.cli.yaml_load import Document
from llm_datagen.cli.yaml_nodes import GRAPH, NODE
from llm_datagen.cli.yaml_parts import OPERATOR
from llm_datagen.cli.yaml_schema import file_schema
from llm_datagen.cli.yaml_spec import PIPELINE, read_spec
from llm_datagen.operators.import_path import load
from llm_datagen.operators.references import spelled_out

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
        (LINE, [], "export_options", {"rows_per_shrad": 1}),
        (LINE, [], "export_options", {"mixed": "jsn"}),
        (LINE, [], "also", ["x.parquet", {"to": "y.parquet", "schmea": {}}]),
        (LINE, [], "also", [{"rows_per_shard": 1}]),
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


NEEDED: dict[str, dict[str, Any]] = {
    "llm.Embed": {"text": "{{ a }}", "model": "m"},
    "llm.Judge": {"prompt": "{{ a }}", "rubric": "b", "model": "m"},
    "llm.LLMOperator": {"prompt": "{{ a }}", "model": "m"},
    "llm.Rerank": {"query": "{{ a }}", "documents": "b", "model": "m", "base_url": "http://127.0.0.1:9/v1"},
    "ops.Best": {"n": 1, "by": "a", "of": "b"},
    "ops.Choose": {"column": "a", "values": {"x": 1}},
    "ops.Cross": {"b": ["x"]},
    "ops.Drop": {"columns": "a"},
    "ops.Explode": {"column": "a"},
    "ops.GroupBy": {"by": "a"},
    "ops.Join": {"table": "t.jsonl", "by": "a"},
    "ops.Keep": {"condition": "a > 1"},
    "ops.Limit": {"n": 1},
    "ops.Loop": {"body": ["ops.Dedupe"], "max_rounds": 1},
    "ops.Rename": {"columns": {"a": "b"}},
    "ops.RouteBy": {"column": "a"},
    "ops.RouteWhen": {"conditions": {"a": "n > 1"}},
    "ops.RunPython": {"code": "a"},
    "ops.Sample": {"n": 1},
    "ops.Select": {"columns": "a"},
    "ops.Split": {"parts": {"a": 0.5, "b": 0.5}},
    "ops.TopK": {"k": 1, "by": "a"},
    "ops.Vote": {"columns": ["a", "b"]},
}
"""What must be given to a class of this package."""


def _makes(part: dict[str, Any]) -> bool:
    made = load(spelled_out(part["use"]))
    try:
        made(**part["with"])
    except (ConfigError, TypeError):
        return False
    return True


CLASSES = sorted(name for name in file_schema()["$defs"] if "." in name)


def test_there_is_a_schema_of_each_class_of_this_package() -> None:
    assert (
        sorted(["llm.Embed", "llm.Judge", "llm.LLMOperator", "llm.Rerank", *(f"ops.{name}" for name in ops.__all__)])
        == CLASSES
    )


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", CLASSES)
def test_what_with_gives_to_a_class_of_this_package_is_checked_by_the_schema_too(name: str) -> None:
    """By its short name and by its whole one: what the class needs is taken, an argument that it has not is refused."""
    needed = NEEDED.get(name, {})
    for use in (name, spelled_out(name)):
        part = {"use": use, "with": needed}
        misspelt = {"use": use, "with": {**needed, "colunm_": ["a"]}}
        for each, is_right in ((part, True), (misspelt, name == "ops.Cross")):  # which takes any column
            content = (
                changed(NODES, ["nodes", "a"], "route", each)
                if "Route" in name
                else changed(LINE, [], "operators", [each])
            )
            assert _makes(each) is is_right
            assert SCHEMA.is_valid(content) is is_right


def test_a_value_of_another_type_and_an_argument_that_is_missing_are_refused() -> None:
    for use, given in (
        ("ops.Dedupe", {"by": 1}),
        ("ops.Limit", {}),
        ("ops.ToChat", {"layout": "sharegtp"}),
        ("llm.LLMOperator", {"prompt": "x", "n": "two"}),
        ("llm.LLMOperator", {"prompt": "x", "budget": {"dollars": 3}}),
    ):
        assert not SCHEMA.is_valid(changed(LINE, [], "operators", [{"use": use, "with": given}])), use
    assert SCHEMA.is_valid(changed(LINE, [], "operators", [{"use": "mine:Own", "with": {"any": [1]}}]))


@pytest.mark.parametrize(
    ("body", "is_right"),
    [
        ("ops.Dedupe", True),
        ("mine:own", True),
        (["ops.Dedupe", {"use": "ops.Select", "with": {"columns": ["a"]}}], True),
        ({"use": "mine:own", "with": {"any": 1}, "batch": True}, True),
        ([{"use": "ops.Loop", "with": {"body": "ops.Dedupe", "max_rounds": 2}}], True),
        ({"use": "ops.Limit"}, False),  # it needs n
        ([{"use": "ops.Dedupe", "with": {"colunm": "a"}}], False),
        ({"use": "ops.Dedupe", "retries": 3}, False),  # that is for a node
        ({"with": {"n": 1}}, False),
        ([{"use": "ops.Loop", "with": {"body": {"use": "ops.Limit"}, "max_rounds": 2}}], False),
        ([], False),
        (3, False),
        (None, False),
    ],
)
def test_operators_in_the_body_of_a_loop_are_checked_by_the_schema_as_others_are(body: Any, is_right: bool) -> None:
    part = {"use": "ops.Loop", "with": {"body": body, "max_rounds": 2}}
    assert SCHEMA.is_valid(changed(LINE, [], "operators", [part])) is is_right
    if "mine:own" not in str(body) and body != [{"use": "ops.Loop", "with": {"body": "ops.Dedupe", "max_rounds": 2}}]:
        assert _makes(part) is is_right


def test_what_is_wrong_with_an_argument_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "input_uri: i.jsonl\noutput_uri: o.jsonl\noperators:\n  - use: ops.Dedupe\n    with:\n      normalise: a\n"
    )
    with pytest.raises(
        ConfigError, match=r"p\.yaml, line 6: operators\[0\]\.with\.normalise: .*; did you mean 'normalize'\?"
    ):
        find_target(str(path))
