"""The program itself: its entry point, its help, and what it says when a package is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from llm_datagen.cli import commands, main
from llm_datagen.cli.app import app

from ..kit.support import write_jsonl
from .conftest import Command
from .shell import Shell


def test_the_program_is_installed_as_llm_datagen() -> None:
    (entry,) = entry_points(group="console_scripts", name="llm-datagen")
    assert entry.load() is main


@pytest.mark.sampled(2)
@pytest.mark.process
@pytest.mark.parametrize("package", ["typer", "rich", "pydantic", "yaml"])
def test_without_the_extra_it_says_how_to_install_it(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from llm_datagen.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"llm-datagen: the command line needs {package}")
    assert "pip install 'llm-datagen[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_and_the_help_are_shown(command: Command) -> None:
    assert command("--version").stdout.startswith("llm-datagen 0.")
    assert "Exit codes" in command("--help").stdout
    for name in ("run", "resume", "replay", "status", "errors", "verify", "trace", "cancel", "demo"):
        assert name in command("--help").stdout
        assert "Usage" in command(name, "--help").stdout
    assert "..." not in command("--help").stdout.partition("Commands:")[2]  # each summary fits into its line
    assert "No such option" in command("run", "--nope", code=2).stderr


def test_every_command_of_every_module_is_there() -> None:
    """They are named in `app`, so that those that nobody asks for need not be imported."""
    group: Any = typer.main.get_command(app)
    names = [name for module in iter_modules(commands.__path__) for name in _names(module.name)]
    assert sorted(group.commands) == sorted(names)
    assert [name for name in group.commands if group.commands[name].name != name] == []


def _names(module: str) -> Iterator[str]:
    for each in import_module(f"llm_datagen.cli.commands.{module}").app.registered_commands:
        yield each.name or each.callback.__name__


def test_a_command_that_is_misspelled_is_answered_with_one_that_is_there(command: Command) -> None:
    assert "No such command 'staats'. Did you mean 'status'?" in command("staats", code=2).stderr


def test_the_example_runs(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "pipeline.yaml"
    write_jsonl(tmp_path / "reviews.jsonl", [{"text": "Good. Really good!"}, {"text": " "}, {"text": "Bad."}])
    command("run", str(example), "--set", "input_uri=jsonl://reviews.jsonl", "--set", "output_uri=jsonl://out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sorted((row["_i"], row["sentence"], row["mood"]) for row in rows) == [
        ("0_0", "Good.", "glad"),
        ("0_1", "Really good!", "glad"),
        ("2_0", "Bad.", "sad"),
    ]


def test_the_demo_needs_the_local_extra(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "llm_datagen.cli.demo.command.find_spec", lambda name: None if name == "xllamacpp" else object()
    )
    told = command("demo", code=1).stderr
    assert "the demo needs xllamacpp; install it with: pip install 'llm-datagen[cli,local]'" in told


def test_the_demo_is_run_with_what_was_asked_for(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    calls: list[dict[str, Any]] = []

    def run_demo(out_dir: Path, **arguments: Any) -> Any:
        calls.append({"out_dir": out_dir, **arguments})
        return SimpleNamespace(status="canceled") if len(calls) > 1 else None

    monkeypatch.setattr("llm_datagen.cli.demo.job.run_demo", run_demo)
    command("demo", "--out", "there", "--rows", "3")
    assert (calls[0]["out_dir"], calls[0]["rows"]) == (Path("there"), 3)
    assert hasattr(calls[0]["hooks"], "on_pipeline_start")
    command("demo", code=1)


def test_a_fresh_demo_removes_the_run_that_is_there_and_nothing_else(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xllamacpp")
    seen: list[set[str]] = []
    out = shell.folder / "out"

    def run_demo(out_dir: Path, **arguments: Any) -> None:
        seen.append({str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()})

    monkeypatch.setattr("llm_datagen.cli.demo.job.run_demo", run_demo)
    (out / "results").mkdir(parents=True)
    (out / "notes.txt").touch()
    command("demo", "--out", "out", "--fresh")
    write_jsonl(out / "definitions.jsonl", [{"n": 1}])
    uris = {"input_uri": f"jsonl://{out}/definitions.jsonl", "output_uri": f"jsonl://{out}/questions.jsonl"}
    command("run", shell.yaml(["ops:odd"], results_dir=f"{out}/results", **uris), "--id", "demo")
    command("demo", "--out", "out", "--fresh")
    assert seen == [{"notes.txt"}, {"notes.txt"}]
    (out / "questions.jsonl").touch()
    assert "holds no demo" in command("demo", "--out", "out", "--fresh", code=2).stderr
