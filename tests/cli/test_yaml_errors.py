"""Every error of a YAML file names the file and the key, says what is wrong, and ends with 2."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeConfig, UnifiedPipeline
from llm_datagen.cli.yaml_load import Document
from llm_datagen.cli.yaml_parts import OPERATOR
from llm_datagen.cli.yaml_spec import PIPELINE, PipelinePart, read_spec

from .conftest import Command
from .shell import Shell

ENTRIES: list[tuple[Any, str]] = [
    ("ops", "operators[0].use: 'ops' must be 'module:name'"),
    ("ops.py:odd", "operators[0].use: 'ops.py:odd' must be 'module:name'"),
    ("opps:odd", "operators[0].use: there is no module 'opps'"),
    ("ops.deeper:odd", "operators[0].use: there is no module 'ops.deeper'"),
    ("ops:od", "operators[0].use: ops has no 'od'; did you mean 'odd'?"),
    ("ops:make_none", "operators[0].use: operator make_none must take an item"),
    ("ops:OPERATORS.x", "operators[0].use: ops has no 'OPERATORS'"),
    ("broken:x", "operators[0].use: importing broken failed: ZeroDivisionError: division by zero"),
    ({"with": {}}, "operators[0].use: this key is missing"),
    ({"use": 5}, "operators[0].use: must be text, not 5"),
    ({"use": "ops:odd", "wiht": {}}, "operators[0].wiht: this key is not known; did you mean 'with'?"),
    ({"use": "ops:odd", "with_": {}}, "operators[0].with_: this key is not known; did you mean 'with'?"),
    ({"use": "ops:odd", "batch_size": 0}, "operators[0].batch_size: must be a whole number of at least 1, not 0"),
    (
        {"use": "ops:odd", "parallel_size": "4"},
        "operators[0].parallel_size: must be a whole number of at least 1, not '4'",
    ),
    ({"use": "ops:odd", "retries": -1}, "operators[0].retries: must be a whole number of at least 0, not -1"),
    ({"use": "ops:odd", "grace": 0}, "operators[0].grace: must be a positive number of seconds, not 0"),
    (
        {"use": "ops:odd", "max_errors": 1.5},
        "operators[0].max_errors: must be a number of rows (such as 100), a share of the rows (such as 0.01) or None, "
        "not 1.5",
    ),
    ({"use": "ops:odd", "max_error": 1}, "operators[0].max_error: this key is not known; did you mean 'max_errors'?"),
    ({"use": "ops:odd", "idle_timeout": -1}, "operators[0].idle_timeout: must be a positive number of seconds, not -1"),
    (
        {"use": "ops:odd", "writer_config": {"fsink": 1}},
        "operators[0].writer_config.fsink: this key is not known; did you mean 'fsync'?",
    ),
    ({"use": "ops:odd", "output_uri": "no://x"}, "operators[0].output_uri: 'no://x': the protocol no:// is not known"),
    ({"use": "ops:odd", "output_uri": "s3://x"}, "operators[0].output_uri: 's3://x' is no address of an object"),
    (
        {"use": "ops:Needy", "with": {"modle": "x"}},
        "operators[0].with.modle: ops:Needy takes no 'modle'; did you mean 'model'?",
    ),
    ({"use": "ops:Needy"}, "operators[0].with.model: this key is missing; ops:Needy needs it"),
    ({"use": "ops:Needy", "with": 3}, "operators[0].with: must hold keys and values, not 3"),
    ({"use": "ops:Needy", "with": {1: 2}}, "operators[0].with: keys must be text, not 1"),
    ({"use": "ops:Broken"}, "operators[0].with: ops:Broken refuses this: OSError: no such model"),
    ({"use": "ops:add", "with": {"mush": 1}}, "operators[0].with.mush: ops:add takes no 'mush'; did you mean 'much'?"),
    ({"use": "ops:Gate", "batch": True}, "operators[0].batch: only for functions"),
    ({"use": "ops:needy", "with": {"model": "x"}}, "operators[0].with: only for classes and functions"),
    ({"use": "ops:needy", "name": "x"}, "operators[0].name: only for classes and functions"),
    (7, "operators[0]: must hold keys and values, not 7"),
]


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("entry", "message"), ENTRIES, ids=[message[:60] for _, message in ENTRIES])
def test_what_is_wrong_with_an_operator_is_said_with_its_key(
    shell: Shell, command: Command, entry: Any, message: str
) -> None:
    (shell.folder / "broken.py").write_text("1 / 0\n")
    output = command("run", shell.yaml([entry]), code=2).stderr
    assert re.match(rf"Error: p\.yaml, line \d+: {re.escape(message)}", output), output


def line(path: Path) -> PipelinePart:
    """Return what a file says of a line of operators."""
    spec = read_spec(Document.read(path))
    assert isinstance(spec, PipelinePart)
    return spec


SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"inptu_uri": "x"}, "inptu_uri: this key is not known; did you mean 'input_uri'?"),
    (
        {"batch_by": "parent"},
        "batch_by: this key is not known; it is said of an operator: put it into an entry of 'operators' "
        "({use: …, batch_by: …})",
    ),
    ({"batch": True}, "batch: this key is not known; it is said of an operator: put it into an entry of 'operators'"),
    ({"streaming": "yes please"}, "streaming: must be True or False, not 'yes please'"),
    ({"on_error": "shrug"}, "on_error: must be one of 'fail', 'skip', 'dead_letter', not 'shrug'"),
    ({"max_errors": -1}, "max_errors: must be a number of rows (such as 100), a share of the rows"),
    ({"retries": 1.5}, "retries: must be a whole number of at least 0, not 1.5"),
    ({"retry_wait": "long"}, "retry_wait: must be a positive number of seconds, not 'long'"),
    ({"delivery": "once"}, "delivery: must be one of 'exactly_once', 'at_most_once', not 'once'"),
    ({"stall_after": 0}, "stall_after: must be a positive number of seconds, not 0"),
    ({"id_scheme": "uuid"}, "id_scheme: must be one of 'path', 'numeric', 'text', not 'uuid'"),
    ({"writer_config": {"queue_size": 0}}, "writer_config.queue_size: must be a whole number of at least 1, not 0"),
    ({"writer_config": []}, "writer_config: must hold keys and values, not []"),
    ({"input_uri": None}, "input_uri: must be text, not None"),
    ({"input_uri": "no://x"}, "input_uri: 'no://x': the protocol no:// is not known"),
    ({"input_uri": "s3://x"}, "input_uri: 's3://x' is no address of an object"),
    ({"default_protocol": "jsonl"}, "default_protocol must be such as 'jsonl://'"),
    ({"operators": []}, "operators: must not be empty"),
    ({"operators": "ops:odd"}, "operators: must be a list, not 'ops:odd'"),
    ({"pipeline_id": 3}, "pipeline_id: must be text, not 3"),
    ({"export_options": {"rows_per_shrad": 9}}, "export_options: 'rows_per_shrad' is no option of an export; did you"),
    ({"also": [{"to": "x.parquet", "schmea": {}}]}, "also: 'schmea' is no option of an export; did you mean 'schema'"),
    ({"log_file": 5}, "log_file: must be a path, or hold path, max_bytes and backups, not 5"),
    ({"log_file": {"pth": "x"}}, "log_file: has no setting 'pth'; did you mean 'path'?"),
    ({"log_file": {"path": 5}}, "log_file: path of a LogFile must be text, not 5"),
    ({"log_file": {"path": "x", "max_bytes": 0}}, "log_file: max_bytes of a LogFile must be a whole number of at"),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("settings", "message"), SETTINGS, ids=[message[:60] for _, message in SETTINGS])
def test_what_is_wrong_with_a_setting_is_said_with_its_key(
    shell: Shell, command: Command, settings: dict[str, Any], message: str
) -> None:
    settings = {"operators": ["ops:odd"], **settings}
    output = command("run", shell.yaml(**settings), code=2).stderr
    assert re.search(rf"Error: p\.yaml, line \d+: {re.escape(message)}", output), output


TEXTS = [
    ("operators: [ops:odd\nstreaming: true", "p.yaml, line 2, column 10: this is not YAML: "),
    ("streaming: true\nstreaming: false", "p.yaml, line 2, column 1: this is not YAML: the key 'streaming' is there"),
    ("- ops:odd", "p.yaml must hold keys such as 'operators'"),
    ("", "p.yaml must hold keys such as 'operators'"),
    ("a: \x07", "p.yaml: this is not YAML: "),
    ("1: 2\noperators: [ops:odd]\ninput_uri: i\noutput_uri: o", "p.yaml: the file: keys must be text, not 1"),
    ("operators: [ops:odd]\noutput_uri: o.jsonl", "p.yaml: input_uri: this key is missing"),
    (
        "input_uri: i\nstreaming: 7",
        "p.yaml: 3 things are wrong\n  operators: this key is missing; or 'nodes', for a graph\n",
    ),
    ("input_uri: i\nstreaming: 7", "  line 2: streaming: must be True or False, not 7"),
    ("? [a, b]\n: 1", "p.yaml, line 1, column 3: this is not YAML: a key must be text"),
    ("a: {<<: 3}", "p.yaml, line 1, column 9: this is not YAML: << merges keys and values"),
    ("batch_size: 010", "p.yaml, line 1, column 13: this is not YAML: 010 is not the same in all versions of YAML"),
    ("batch_size: -0_7", "p.yaml, line 1, column 13: this is not YAML: -0_7 is not the same"),
    *(
        (
            f"grace: {text}",
            f"p.yaml, line 1, column 8: this is not YAML: {text} is not the same in all versions of YAML",
        )
        for text in ("1e3", "-1.5E3", "1e+3", "0o17", "089")
    ),
    ("grace: 1:30", "p.yaml, line 1, column 8: this is not YAML: 1:30 is not the same in all versions of YAML"),
    ("grace: 1:30.5", "p.yaml, line 1, column 8: this is not YAML: 1:30.5 is not the same in all versions of YAML"),
]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(("text", "message"), TEXTS)
def test_a_file_that_is_no_pipeline_is_refused_with_its_line(
    shell: Shell, command: Command, text: str, message: str
) -> None:
    output = command("run", shell.text(text), code=2).stderr
    assert f"Error: {message}" in output or (message.startswith("  ") and message in output)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1_000", 1000), ("0.5", 0.5), ("-1.5e+3", -1500.0), ("1.2.3e4", "1.2.3e4"), ("'010'", "010")],
)
def test_numbers_that_are_the_same_in_all_versions_of_yaml_are_read(tmp_path: Path, text: str, value: Any) -> None:
    (tmp_path / "p.yaml").write_text(f"operators: [{{use: 'a:b', with: {{n: {text}}}}}]\ninput_uri: i\noutput_uri: o")
    assert line(tmp_path / "p.yaml").operators[0].with_ == {"n": value}


def test_all_that_is_wrong_is_said_at_once(shell: Shell, command: Command) -> None:
    file = shell.yaml(["ops:odd", {"use": "ops:odd", "parallel": 2}], batch_size="many")
    output = command("run", file, code=2).stderr
    assert "2 things are wrong" in output
    lines = (shell.folder / file).read_text().splitlines()
    where = lines.index("- parallel: 2") + 1, lines.index("batch_size: many") + 1
    assert f"  line {where[0]}: operators[1].parallel: this key is not known; did you mean 'parallel_size'?" in output
    assert f"  line {where[1]}: batch_size: must be a whole number of at least 1, not 'many'" in output


def test_an_import_that_fails_shows_the_users_frames(shell: Shell, command: Command) -> None:
    (shell.folder / "broken.py").write_text("def fail():\n    return 1 / 0\n\n\nfail()\n")
    output = command("run", shell.yaml(["broken:x"]), code=2).stderr
    assert "in fail" in output
    assert "importlib" not in output


@pytest.mark.integration
def test_settings_of_failure_hold_for_all_nodes_or_for_one(shell: Shell, command: Command) -> None:
    settings: dict[str, Any] = {"on_error": "dead_letter", "max_errors": 20, "retries": 1, "retry_wait": 0.001}
    own = {"on_error": "skip", "max_errors": 0.25, "retries": 0, "grace": 2, "stall_after": 30.5}
    file = shell.yaml(["ops:odd", {"use": "ops:odd", **own}], **settings, delivery="at_most_once", grace=5)
    command("run", file, "--id", "a")
    first, second = json.loads((shell.folder / "tmp/results/a/runtime.json").read_text())["nodes"]
    assert first.items() >= {**settings, "delivery": "at_most_once", "grace": 5, "stall_after": 300}.items()
    assert second.items() >= {**own, "retry_wait": 0.001, "delivery": "at_most_once"}.items()


def test_a_wrong_file_touches_nothing_on_disk(shell: Shell, command: Command) -> None:
    before = sorted(shell.folder.iterdir())
    file = shell.yaml(["ops:odd"], streaming=3)
    command("run", file, code=2)
    assert sorted(shell.folder.iterdir()) == sorted([*before, shell.folder / file])


def test_the_keys_are_the_arguments_of_the_pipeline_and_the_fields_of_its_settings() -> None:
    arguments = set(inspect.signature(UnifiedPipeline).parameters)
    assert set(PIPELINE.model_fields) == arguments - {"hooks", "node_configs"} | {"pipeline_id"}
    assert set(OPERATOR.model_fields) == {field.name for field in fields(NodeConfig)} | {
        "use",
        "with_",
        "name",
        "batch",
    }


def test_aliases_of_aliases_end_with_an_error_at_once(tmp_path: Path) -> None:
    """13.20: written out, these are some 10 ** 30 values; what is in the file is a few lines."""
    levels = "".join(f"  - &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 31))
    path = tmp_path / "bomb.yaml"
    path.write_text(f"operators:\n  - &a0 x\n{levels}input_uri: a.jsonl\noutput_uri: b.jsonl\n")
    with pytest.raises(ConfigError, match=r"bomb.yaml, line 1, column 1: .* more than 100000 values"):
        Document.read(path)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("operators: &a [*a]\n", "line 1, column 12: .* an alias stands within what it is for"),
        ("operators: &a {use: *a}\n", "an alias stands within what it is for"),
        (f"operators: {'[' * 3000}\n", "nested too deeply"),
    ],
)
def test_yaml_without_a_bottom_is_refused(tmp_path: Path, text: str, says: str) -> None:
    """13.20: siblings of the bomb."""
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"p.yaml.*{says}"):
        Document.read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2024-02-30", "2024-02-30 is a date in some versions of YAML, and a text in others"),
        ("2024-01-01", "2024-01-01 is a date in some versions of YAML, and a text in others"),
        ("2024-12-01 10:00:00", "2024-12-01 10:00:00 is a date in some versions of YAML, and a text in others"),
        ("9" * 5000, f"{'9' * 59}… cannot be read as int"),
        ("!!int ten", "ten cannot be read as int"),
        ("!!int ''", " cannot be read as int"),
        ("!!int [1]", "this cannot be read as int"),
        ("!!float x", "x cannot be read as float"),
        ("!!timestamp soon", "soon is a date in some versions of YAML, and a text in others"),
        ("!!bool maybe", "maybe cannot be read as bool"),
    ],
)
def test_a_value_that_its_type_cannot_be_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    """13.20: PyYAML raises what Python does, such as ValueError, without a place."""
    path = tmp_path / "p.yaml"
    path.write_text(f"input_uri: a.jsonl\ninput:\n  - {{day: {text}}}\n")
    with pytest.raises(ConfigError, match=f"p.yaml, line 3, column 11: .*{re.escape(says)}: quote it"):
        Document.read(path)


def test_aliases_serve_as_before(tmp_path: Path) -> None:
    """13.20: what is written once may be used often, and merged."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "operators:\n  - &one {use: 'ops:odd', retries: 2}\n  - <<: *one\n    retries: 3\n  - *one\n"
        "input_uri: a.jsonl\noutput_uri: b.jsonl\n"
    )
    assert [operator.node_config()["retries"] for operator in line(path).operators] == [2, 3, 2]


def test_what_a_merge_merges_is_the_same_with_every_version_of_pyyaml(tmp_path: Path) -> None:
    """Own keys count before merged ones, and an earlier mapping before others; a merge of a merge is no key twice."""
    path = tmp_path / "p.yaml"
    path.write_text(
        "a: &a {k: 1, long: 1}\nb: &b {k: 2, long: 2, more: 2}\nx: {inner: &c {<<: *a, k: 3}}\n"
        "one: {<<: [*a, *b]}\ntwo: {<<: *c, long: 4}\n"
    )
    document = Document.read(path)
    assert document.content["one"] == {"k": 1, "long": 1, "more": 2}
    assert document.content["two"] == {"k": 3, "long": 4}
    assert (document.lines["one.more"], document.lines["two.long"]) == (2, 5)


def test_a_key_that_is_there_twice_on_one_line_is_refused(shell: Shell, command: Command) -> None:
    (shell.folder / "twice.yaml").write_text("pipeline_id: a\noperators:\n  - {use: ops:Gate, use: ops:Other}\n")
    assert "the key 'use' is there already, in line 3" in command("run", "twice.yaml", code=2).stderr
