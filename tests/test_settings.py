"""One table of settings: an entry is all that a new setting needs; it arrives wherever settings are."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llm_datagen
from llm_datagen import ConfigError, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.config import DataConfig, NodeConfigOptions, WriterConfig, settings_in
from llm_datagen.pipeline.settings import NodeAloneSettings, NodePipelineOptions, PipelineSettings

SOURCE = Path(llm_datagen.__file__).parent
ENTRY = '    patience: Annotated[float, Setting(7.0, check_seconds, "how long a test waits", "seconds")]\n'

PROGRAM = '''
import json
from pathlib import Path

from llm_datagen import ConfigError, NodeConfig, UnifiedNode, UnifiedPipeline
from llm_datagen.cli.target import find_target, parse_settings


def refusal(call):
    try:
        call()
    except ConfigError as error:
        return str(error)


def double(row):
    return {"n": 2 * row["n"]}


def entries(pipeline_id):
    return json.loads(Path("runs", pipeline_id, "runtime.json").read_text())["nodes"]


Path("in.jsonl").write_text('{"n": 1}\\n')
Path("p.yaml").write_text("""
operators: ["job:double", {use: "job:double", patience: 3}]
input_uri: in.jsonl
output_uri: yaml.jsonl
results_dir: runs
patience: 4
""")


def line(name, **settings):
    given = {"results_dir": "runs", "log_file": None, "base_path": "between", **settings}
    return UnifiedPipeline([double, double], "in.jsonl", f"{name}.jsonl", **given)


if __name__ == "__main__":
    found = {"refused": [refusal(lambda: kind(patience=0)) for kind in (UnifiedPipeline, NodeConfig)]}
    found["refused"] += [refusal(lambda: UnifiedNode("n", patience=0))]
    found["misspelt"] = refusal(lambda: UnifiedPipeline(patiense=1))
    found["config"] = NodeConfig(patience=3).patience
    line("a", node_configs=[{"patience": 2}]).create("a", patience=5)
    found["entries"] = [entry["patience"] for entry in entries("a")]

    path = Path("runs/a/runtime.json")
    state = json.loads(path.read_text())
    del state["nodes"][1]["patience"], state["check"]  # as an older version has left it
    state["format"] = 1
    path.write_text(json.dumps(state))
    again = line("a").resume("a")
    found["resumed"] = [node.settings["patience"] for node in again.nodes]
    found["status"] = str(again.run().status)

    found["set"] = parse_settings(["patience=6"])
    find_target("p.yaml").pipeline.create("y")
    found["yaml"] = [entry["patience"] for entry in entries("y")]
    found["yaml refused"] = refusal(lambda: find_target("p.yaml", {"patience": 0}))
    found["help"] = UnifiedPipeline.__init__.__doc__.splitlines()
    print(json.dumps(found))
'''


@pytest.mark.slow
@pytest.mark.process
def test_a_setting_that_is_one_entry_arrives_everywhere(tmp_path: Path) -> None:
    """The package with one line more, in one file: constructors, checks, run states, YAML, command line, help."""
    shutil.copytree(SOURCE, tmp_path / "llm_datagen", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "llm_datagen/config/node.py"
    text = table.read_text(encoding="utf-8")
    at = text.index("    retries: Annotated[")
    table.write_text(text[:at] + ENTRY + text[at:], encoding="utf-8")
    (tmp_path / "job.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    printed = subprocess.check_output([sys.executable, "job.py"], cwd=tmp_path, env=environment)
    found = json.loads(printed)
    wrong = "patience must be a positive number of seconds, not 0"
    assert found["refused"] == [wrong] * 3
    assert found["misspelt"] == "UnifiedPipeline has no setting 'patiense'; did you mean 'patience'?"
    assert found["config"] == 3
    assert found["entries"] == [2, 5]
    assert found["resumed"] == [2, 7]
    assert found["status"] == "completed"
    assert found["set"] == {"patience": 6}
    assert found["yaml"] == [4, 3]
    assert found["yaml refused"] == f"p.yaml: {wrong.replace(' must', ': must', 1)}"
    assert "    patience: how long a test waits (seconds)" in found["help"]


TABLES: list[tuple[Any, Callable[..., Any]]] = [
    (PipelineSettings, UnifiedPipeline),
    (NodePipelineOptions, UnifiedNodePipeline),
    (NodeAloneSettings, UnifiedNode),
    (NodeConfigOptions, llm_datagen.NodeConfig),
    (WriterConfig, WriterConfig),
    (DataConfig, DataConfig),
]


def test_a_number_of_any_length_is_refused_by_every_setting_by_its_name() -> None:
    """Else it is a float that overflows, or a timer, at some later time."""
    numbers = 0
    for name, each in {name: each for table, _ in TABLES for name, each in settings_in(table).items()}.items():
        try:
            each.check(name, 2)
        except ConfigError:
            continue
        if name == "hooks":  # any object may be one
            continue
        numbers += 1
        for endless in (10**400, 10**5000, -(10**400)):
            with pytest.raises(ConfigError, match=name):
                each.check(name, endless)
    assert numbers > 10


@pytest.mark.parametrize(("table", "maker"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_default_passes_its_own_check_and_every_setting_is_told(table: Any, maker: Callable[..., Any]) -> None:
    for name, each in settings_in(table).items():
        each.check(name, each.default)
        assert each.text
        assert "image" not in each.text


@pytest.mark.parametrize(("table", "maker"), TABLES[:3], ids=lambda value: getattr(value, "__name__", ""))
def test_a_constructor_shows_the_settings_and_defaults_of_its_table(table: Any, maker: Callable[..., Any]) -> None:
    """M3: also where some may be given by position."""
    shown = {name: each.default for name, each in inspect.signature(maker).parameters.items()}
    shown = {name: default for name, default in shown.items() if default is not inspect.Parameter.empty}
    assert shown == {name: each.default for name, each in settings_in(table).items()}
