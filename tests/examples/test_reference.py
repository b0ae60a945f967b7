"""The tables of the reference are those of the code: names, order, defaults, choices, fields."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import llm_datagen
from llm_datagen import errors, llm, messages
from llm_datagen.config import DeliveryMode, Fsync, IdScheme, IfExists, NodeConfig, OnError
from llm_datagen.runs import hooks
from llm_datagen.runs.logs import events
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.status import NodeReport, PipelineStatus, Status
from llm_datagen.streams import Seal

from . import generated, report_keys
from .pages import DOCS, names_in, table
from .settings_tables import TABLES, Table

REFERENCE = DOCS / "reference"
EXPLANATION = DOCS / "explanation"
SOURCE = Path(llm_datagen.__file__).parent
CHOICES: dict[str, Any] = {"on_error": OnError, "id_scheme": IdScheme, "fsync": Fsync, "delivery": DeliveryMode}


def _names(rows: dict[str, list[str]]) -> list[str]:
    return [name for cell in rows for name in names_in(cell)]


def _parameters(func: Callable[..., Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(func).parameters.values())
    return {p.name: p.default for p in parameters if p.name != "self"}


def _fields(cls: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(cls)}


@pytest.mark.parametrize("shown", TABLES, ids=lambda shown: str(shown.heading))
def test_settings_are_those_of_the_code(shown: Table) -> None:
    """``python -m tests.examples.settings_tables`` writes them."""
    assert shown.shown() == shown.of_code()


@pytest.mark.parametrize("name", ["LLMOperator", "Embed", "Rerank", "Judge"])
def test_settings_of_operators_that_call_models_and_defaults_are_those_of_the_code(name: str) -> None:
    settings = _parameters(getattr(pytest.importorskip("llm_datagen.llm"), name))
    rows = table(REFERENCE, name, "setting")
    assert _names(rows) == list(settings)
    for (setting, default), (shown, unit, _) in zip(settings.items(), rows.values(), strict=True):
        if default is inspect.Parameter.empty:
            assert shown == "required", setting
        else:
            assert ast.literal_eval(shown.strip("`")) == default, setting
        if setting.endswith(("_interval", "timeout", "_wait", "_after", "grace")):
            assert unit == "seconds", setting


def test_all_choices_of_a_setting_are_told() -> None:
    for table_ in TABLES:
        for name, (_, _, meaning) in table(table_.path, table_.heading.strip("# "), "setting").items():
            for choice in typing.get_args(CHOICES.get(name.strip("`"))):
                assert f'`"{choice}"`' in meaning, f"{name} may be {choice!r}"


def test_a_call_with_positions_is_described_rightly() -> None:
    def positional(func: Callable[..., Any]) -> int:
        return sum(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(func).parameters.values())

    assert positional(llm_datagen.UnifiedPipeline) == 13
    assert positional(llm_datagen.UnifiedNode) == 3
    create = table(REFERENCE, "UnifiedPipeline", "method or property")
    told = next(meaning for name, (meaning,) in create.items() if name.startswith("`create"))
    for choice in typing.get_args(IfExists):
        assert f'`"{choice}"`' in told


@pytest.mark.parametrize(
    ("section", "owner"),
    [
        ("UnifiedPipeline", llm_datagen.UnifiedPipeline([len], "in.jsonl", "out.jsonl")),
        ("UnifiedNode", llm_datagen.UnifiedNode("n")),
        ("Streams", llm_datagen.JsonlStream("jsonl://x")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_methods_are_there_with_these_parameters(section: str, owner: object) -> None:
    heading = "method or property of a stream" if section == "Streams" else "method or property"
    for cell in table(REFERENCE, section, heading):
        for shown in names_in(cell):
            name, parenthesis, _ = shown.partition("(")
            assert hasattr(type(owner), name) or name in vars(owner), f"{section} has no {name}"
            if parenthesis:
                assert _call_as_shown(shown) == _call_of(name, getattr(owner, name)), name


def _call_as_shown(shown: str) -> str:
    return shown.replace(" ", "").replace('"', "'")


def _call_of(name: str, func: Callable[..., Any]) -> str:
    parameters = inspect.signature(func).parameters.values()
    bare = [p.replace(annotation=p.empty) for p in parameters]
    return f"{name}{inspect.Signature(bare)}".replace(" ", "").replace('"', "'")


def test_reports_have_these_fields() -> None:
    properties = [
        name for cls in (RunReport, PipelineStatus) for name, value in vars(cls).items() if isinstance(value, property)
    ]
    assert _names(table(REFERENCE, "Reports", "field of RunReport")) == [*_fields(RunReport), *properties]
    derived = [name for name, value in vars(NodeReport).items() if isinstance(value, property)]
    assert _names(table(REFERENCE, "Reports", "field of NodeReport")) == [*_fields(NodeReport), *derived]
    assert len(_fields(PipelineStatus)) == 7


def test_every_status_is_explained() -> None:
    assert _names(table(EXPLANATION, "Failure and cancel", "status")) == [
        *(status.value for status in (Status.PENDING, Status.RUNNING, Status.RESUMING, Status.CANCELING)),
        *(status.value for status in (Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.STOPPED)),
        Status.UNNEEDED.value,
    ]
    assert len(Status) == 9


def test_every_member_of_operators_and_ctx_is_there() -> None:
    members = [name for name in vars(llm_datagen.BaseOperator) if not name.startswith("_")]
    shown = [cell.strip("`").partition("(")[0] for cell in table(REFERENCE, "Operators", "member of an operator")]
    assert sorted(shown) == sorted(members)
    of_ctx = [name for name in vars(llm_datagen.INodeContext) if not name.startswith("_")]
    shown = [cell.strip("`").partition("(")[0] for cell in table(REFERENCE, "Operators", "member of ctx")]
    assert shown == of_ctx


def test_every_hook_is_there_with_its_parameters() -> None:
    expected = []
    for name in hooks.HOOK_NAMES:
        parameters = list(inspect.signature(getattr(hooks.DefaultPipelineHooks, name)).parameters)[1:]
        expected.append(f"{name}({', '.join(parameters)})")
    assert sorted(_names(table(REFERENCE, "Hooks", "hook"))) == sorted(expected)


def _events() -> dict[str, str]:
    values = {name: value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)}
    return {name: value for name, value in values.items() if value.startswith("[")}


def test_every_event_of_the_log_is_in_the_table() -> None:
    assert sorted(_names(table(REFERENCE, "platform.log", "event"))) == sorted(_events().values())


def test_every_field_of_an_event_is_in_the_table() -> None:
    rows = table(REFERENCE, "platform.log", "event")
    found = 0
    for file in SOURCE.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Attribute)):
                continue
            event = _events().get(call.args[0].attr)
            if event is None or not isinstance(call.func, ast.Attribute) or "log" not in ast.unparse(call.func.value):
                continue
            found += 1
            shown = names_in(rows[f"`{event}`"][1])
            for keyword in call.keywords:
                assert keyword.arg is None or keyword.arg in shown, f"{event} has the field {keyword.arg} ({file.name})"
    assert found >= len(_events())


def test_every_order_and_event_of_a_pipeline_is_in_the_tables() -> None:
    orders = table(REFERENCE, "Messages", "command, from llm_datagen.messages")
    for cell, (fields, _, _) in orders.items():
        assert names_in(fields) == list(_fields(getattr(messages, cell.strip("`"))))
    events = table(REFERENCE, "Messages", "event")
    assert sorted(_names(events)) == sorted(event.__name__ for event in typing.get_args(messages.Event))
    for cell, (fields, _) in events.items():
        assert names_in(fields) == list(_fields(getattr(messages, cell.strip("`"))))
    public = {event.__name__ for event in typing.get_args(messages.Event)} | {name.strip("`") for name in orders}
    internal = {"StatusChanged", "Settled", "StageEnded", "RowsFailed", "GiveAway"}
    assert {cls.__name__ for cls in typing.get_args(messages.PipelineMessage)} == public | internal
    assert {cls.__name__ for cls in typing.get_args(messages.HostMessage)} == {name.strip("`") for name in orders}


def test_every_error_is_in_the_table() -> None:
    tree = {cls.__name__ for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, Exception)}
    assert sorted(_names(table(REFERENCE, "Errors", "error"))) == sorted(tree)


def test_every_error_of_a_call_is_in_its_table() -> None:
    described = table(REFERENCE, "LLMOperator", "error of a call")
    assert {name for cell in described for name in names_in(cell)} == {
        name for name in llm.__all__ if name.endswith("Error")
    }


@pytest.mark.integration
def test_the_files_hold_these_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("1\n2\n3\n4\n", encoding="utf-8")
    refuse = [3]

    def step(number: int) -> int:
        if number in refuse:
            raise ValueError(number)
        return number

    step.version = "1"  # type: ignore[attr-defined]
    pipeline = llm_datagen.UnifiedPipeline([step], "jsonl://in.jsonl", "jsonl://out.jsonl", log_file=None)
    with pytest.raises(llm_datagen.NodeFailedError):
        pipeline.create("keys").run()
    header, *commits = (json.loads(line[18:]) for line in Path("out.jsonl.commits").read_text().splitlines())
    assert list(header) == ["format", "source"]
    keys = _names(table(REFERENCE, "Files on disk", "key of a commit"))
    assert sorted({key for commit in commits for key in commit} | {"marks"}) == sorted(keys)

    refuse.clear()
    pipeline.resume("keys").run()
    seal = json.loads(Path("out.jsonl.done").read_text())
    assert sorted(_names(table(REFERENCE, "Files on disk", "key of a seal"))) == sorted(seal)
    assert sorted(seal) == sorted([*_fields(Seal), "ledger", "check"])
    run_state = json.loads(Path("tmp/results/keys/runtime.json").read_text())
    rows = table(REFERENCE, "Files on disk", "key of runtime.json")
    assert _names(rows) == list(run_state)
    assert list(run_state["config"]) == [
        name for name in _parameters(llm_datagen.UnifiedPipeline) if name in run_state["config"]
    ]
    documented = {
        *names_in(rows["`nodes`"][0]),
        *NodeReport(node_id="").as_dict(),
        *_fields(NodeConfig),
        "id_scheme",
        "follow_input",
    }
    assert set(run_state["nodes"][0]) <= documented
    checkpoint = json.loads(Path("tmp/results/keys/checkpoint.json").read_text())["node_0"]
    found = [f"{side}.{key}" for side in checkpoint for key in checkpoint[side]]
    assert _names(table(REFERENCE, "Files on disk", "key of a checkpoint")) == found
    point = json.loads(Path("tmp/results/keys/timeline.jsonl").read_text().splitlines()[-1])
    assert _names(table(REFERENCE, "Files on disk", "key of a point")) == list(point)
    left = {"runtime.json", "checkpoint.json", "timeline.jsonl", "lock"}
    assert {path.name for path in Path("tmp/results/keys").iterdir()} == left


@pytest.mark.integration
def test_a_dead_letter_holds_these_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("1\nno JSON\n", encoding="utf-8")

    def refuse(number: int) -> int:
        raise ValueError(number)

    llm_datagen.UnifiedPipeline([refuse], "in.jsonl", "out.jsonl", on_error="dead_letter", log_file=None).run()
    dead_letters = [
        json.loads(line) for line in Path("out.jsonl.errors.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rows = table(REFERENCE, "Files on disk", "key of a dead letter")
    of_long_records = {"raw_bytes"}
    assert sorted(_names(rows)) == sorted(
        {key for dead_letter in dead_letters for key in dead_letter} | of_long_records
    )
    assert names_in(rows["`error`"][0])[:3] == list(dead_letters[0]["error"])
    assert [dead_letter["attempts"] for dead_letter in dead_letters] == [1, 0]


def test_every_key_of_an_operator_in_yaml_is_there() -> None:
    spec = pytest.importorskip("llm_datagen.cli.yaml_spec")
    keys = [field.alias or name for name, field in spec.OPERATOR.model_fields.items()]
    shown = _names(table(REFERENCE, "Pipelines in YAML", "key of an operator"))
    assert sorted(keys) == sorted([*shown, *_fields(NodeConfig)])
    settings = [name for name in _parameters(llm_datagen.UnifiedPipeline) if name not in {"hooks", "node_configs"}]
    assert sorted(spec.PIPELINE.model_fields) == sorted([*settings, "pipeline_id"])


def test_every_command_is_in_the_table() -> None:
    typer = pytest.importorskip("typer")
    group = typer.main.get_command(pytest.importorskip("llm_datagen.cli.app").app)
    commands = group.commands
    shown_commands = [names_in(cell)[0].split()[0] for cell in table(REFERENCE, "Command line", "command")]
    assert shown_commands == list(commands)


def test_events_and_commands_are_those_of_the_code() -> None:
    """``python -m tests.examples.generated`` and ``report_keys`` write them."""
    assert generated.shown_events() == generated.events_table()
    assert report_keys.PAGE.read_text(encoding="utf-8") == report_keys.page()
    pytest.importorskip("typer")
    assert generated.COMMANDS.read_text(encoding="utf-8") == generated.commands_page()


def test_the_page_of_providers_is_what_their_tests_try() -> None:
    """``python -m tests.examples.generated`` writes it."""
    pytest.importorskip("llm_datagen.llm")
    assert generated.PROVIDERS.read_text(encoding="utf-8") == generated.providers_page()
