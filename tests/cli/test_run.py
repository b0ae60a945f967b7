"""`llm-datagen run`: from a file or code to rows, and the codes that it ends with."""

from __future__ import annotations

import json
import re

import pytest

from llm_datagen import CompositePipelineHooks, DefaultPipelineHooks
from llm_datagen.cli.execute import run_watched
from llm_datagen.cli.target import find_target

from ..kit.support import PATIENCE_SECONDS
from .conftest import Command
from .shell import Shell


@pytest.mark.process
def test_a_pipeline_in_yaml_runs_to_its_end_and_says_how_it_went(shell: Shell) -> None:
    shell.open_gate()
    file = shell.yaml(["ops:odd", {"use": "ops:Gate", "parallel_size": 3}], streaming=True, pipeline_id="mine")
    done = shell.run("run", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["n"] for row in shell.rows()] == list(range(1, 50, 2))
    said = done.stdout.splitlines()
    assert said[0] == "run mine: p.yaml"
    assert "node_0 odd: completed, 50/50 rows" in done.stdout
    assert "25 filtered" in done.stdout
    assert said[-4].startswith("run mine: completed after ")
    assert said[-3:] == [
        "  rows    50 in, 25 out, 25 filtered, 0 failed",
        "  usage   p/m: prompt_tokens 25, completion_tokens 50",
        "  output  out.jsonl",
    ]
    run_state = json.loads((shell.folder / "tmp/results/mine/runtime.json").read_text())
    assert [node["parallel_size"] for node in run_state["nodes"]] == [1, 3]


def test_functions_take_further_arguments_and_batches_from_yaml(shell: Shell, command: Command) -> None:
    operators = [
        {"use": "ops:add", "with": {"much": 100}},
        {"use": "ops:all_at_once", "batch": True, "batch_size": 10, "name": "grouped"},
        {"use": "ops:Needy", "with": {"model": "x", "size": 3}, "name": "needy"},
        "ops:needy",
    ]
    command("run", shell.yaml(operators), "--id", "a")
    assert shell.rows()[0] == {"n": 100, "of": 10, "size": 1, "_i": 0}
    run_state = json.loads((shell.folder / "tmp/results/a/runtime.json").read_text())
    assert [node["operator"] for node in run_state["nodes"]] == ["add", "grouped", "needy", "Needy"]


def test_operators_are_found_beside_the_file_and_paths_from_where_it_is_run(shell: Shell, command: Command) -> None:
    away = shell.folder / "away"
    away.mkdir()
    (shell.folder / "ops.py").rename(away / "ops.py")
    shell.yaml(["ops:odd"])
    (shell.folder / "p.yaml").rename(away / "p.yaml")
    command("run", "away/p.yaml")
    assert len(shell.rows()) == 25


@pytest.mark.parametrize("name", ["ops:make_pipeline", "ops:make_created"])
def test_a_pipeline_in_code_runs(shell: Shell, command: Command, name: str) -> None:
    output = command("run", name).stdout
    assert len(shell.rows()) == 25
    assert ("run mine: " in output) == (name == "ops:make_created")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope.yaml"], "nope.yaml cannot be read: No such file or directory"),
        (["nope"], "'nope' is neither a YAML file nor 'module:name' of a pipeline"),
        (["ops.py"], "is a Python file; a pipeline in it is given as module:name, here ops:NAME (the name of"),
        (["./ops.py:pipeline"], "a pipeline in it is given as module:name, here ops:pipeline"),
        (["jobs/ops.py"], "a pipeline in it is given as module:name, here jobs.ops:NAME"),
        (["../ops.py"], "a pipeline in it is given as module:name, here ops:NAME, typed in .. ("),
        (["ops:make_none"], "must be a UnifiedPipeline or a UnifiedNodePipeline, or return one, not None"),
        (["ops:make_with"], "ops:make_with takes arguments"),
        (["ops:make_badly"], "ops:make_badly() failed: LookupError: no key"),
        (["ops:pipelin"], "ops has no 'pipelin'; did you mean 'pipeline'?"),
        (["ops:make_created", "--id", "other"], "is created already, as 'mine'"),
        (["p.yaml", "--set", "streamin=1"], "'streamin' is not a setting; did you mean 'streaming'?"),
        (["p.yaml", "--set", "streaming"], "must be key=value"),
        (["p.yaml", "--set", "streaming=5"], "streaming: must be True or False, not 5"),
        (["p.yaml", "--set", "max_errors=lots"], "max_errors: must be a number of rows (such as 100), a share"),
        (["ops:pipeline", "--set", "max_errors=1.5"], "max_errors must be a number of rows (such as 100), a share"),
        (["p.yaml", "--set", "operators=[]"], "'operators' is not a setting"),
        (["p.yaml", "--id", "a/b"], "pipeline_id must be a name"),
        (["ops:make_pipeline", "--set", "batch_size=0"], "batch_size must be a whole number"),
    ],
)
def test_what_cannot_be_run_is_refused_with_2(
    shell: Shell, command: Command, arguments: list[str], message: str
) -> None:
    shell.yaml(["ops:odd"])
    assert message in command("run", *arguments, code=2).stderr
    assert not shell.output.exists()


def test_settings_are_overridden_from_the_command_line(shell: Shell, command: Command) -> None:
    for name in (shell.yaml(["ops:odd"]), "ops:make_pipeline"):
        failing = ["--set", "on_error=dead_letter", "--set", "max_errors=0.5", "--set", "retries=2"]
        command("run", name, "--set", "output_uri=csv://other.csv", "--set", "batch_size=7", "--id", "a", *failing)
        assert (shell.folder / "other.csv.done").exists()
        run_state = json.loads((shell.folder / "tmp/results/a/runtime.json").read_text())
        assert run_state["nodes"][0]["batch_size"] == 7
        assert [run_state["nodes"][0][key] for key in ("on_error", "max_errors", "retries")] == ["dead_letter", 0.5, 2]
        (shell.folder / "tmp/results/a/runtime.json").unlink()
        for path in shell.folder.glob("*other.csv*"):
            path.unlink()


@pytest.mark.slow
def test_an_id_that_has_a_run_is_refused_continued_or_overwritten_as_asked(shell: Shell, command: Command) -> None:
    file = shell.yaml(["ops:odd"], pipeline_id="a")
    command("run", file)
    before = shell.output.stat().st_mtime_ns
    refused = command("run", file, code=2).stderr
    assert "run 'a' is there already" in refused
    assert "llm-datagen resume" in refused
    assert "run a: completed" in command("run", file, "--if-exists", "resume").stdout
    assert shell.output.stat().st_mtime_ns == before
    command("run", file, "--if-exists", "overwrite")
    assert shell.output.stat().st_mtime_ns > before


@pytest.mark.process
def test_an_operators_exception_ends_with_1_and_shows_the_users_frames_only(shell: Shell) -> None:
    done = shell.run("run", shell.yaml(["ops:no_seven"]), "--id", "a")
    assert done.returncode == 1
    # Whether all rows were counted when the seventh failed is a matter of timing; else their number is estimated.
    assert re.search(r"node_0 no_seven: failed, 7/(50|~\d+) rows", done.stdout)
    assert "  go on   llm-datagen resume a\n" in done.stdout
    assert "or without rows that fail: llm-datagen resume a --on-error dead_letter\n" in done.stdout
    assert "Error: node node_0 failed: ValueError: seven is [not] wanted" in done.stderr
    assert "in no_seven" in done.stderr
    assert "in check" in done.stderr
    assert "llm_datagen/executors" not in done.stderr


def test_the_whole_traceback_is_shown_when_asked_for(shell: Shell, command: Command) -> None:
    errors = command("run", shell.yaml(["ops:no_seven"]), "--traceback", code=1).stderr
    assert "llm_datagen/executors" in errors
    assert "The above exception was the direct cause" in errors


def test_an_error_of_the_engine_is_one_message_without_a_traceback(shell: Shell, command: Command) -> None:
    (shell.folder / "in.jsonl").write_text('{"n": 1}\n{"n": \n')
    errors = command("run", shell.yaml(["ops:odd"]), code=1).stderr
    assert "in.jsonl" in errors
    assert "Traceback" not in errors
    (shell.folder / "in.jsonl").unlink()
    errors = command("run", shell.yaml(["ops:odd"], output_uri="jsonl://o2.jsonl"), code=1).stderr
    assert "in.jsonl" in errors
    assert "Traceback" not in errors


@pytest.mark.process
def test_a_reader_that_goes_away_does_not_stop_the_run(shell: Shell) -> None:
    """As in `llm-datagen run p.yaml | head -1`."""
    with shell.started("run", shell.yaml(["ops:Gate"])) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        run.stdout.close()
        shell.open_gate()
        assert run.stderr.read() == ""
        assert run.wait(PATIENCE_SECONDS) == 0
    assert len(shell.rows()) == 50


def test_hooks_of_the_pipeline_are_called_besides_those_of_the_display(shell: Shell) -> None:
    class Ends(DefaultPipelineHooks):
        def __init__(self) -> None:
            self.ends: list[bool] = []

        def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
            self.ends.append(success)

    own = Ends()
    pipeline = find_target(shell.yaml(["ops:odd"])).create("a", None)
    pipeline.hooks = own
    assert run_watched(pipeline) == 0
    assert own.ends == [True]
    assert isinstance(pipeline.hooks, CompositePipelineHooks)


@pytest.mark.slow
def test_a_file_and_a_run_are_drawn(shell: Shell, command: Command) -> None:
    """`describe` takes both; the node's own settings are in it, and nothing is made."""
    file = shell.yaml(["ops:odd", {"use": "ops:twice", "batch_size": 7}])
    before = sorted(shell.folder.iterdir())
    drawn = command("describe", file).stdout
    assert "↓ node_0: odd (parallel_size=1, batch_size=1)" in drawn
    assert "↓ node_1: twice (parallel_size=1, batch_size=7)" in drawn
    assert [path for path in sorted(shell.folder.iterdir()) if path.name != "__pycache__"] == before
    command("run", file, "--id", "a")
    assert command("describe", "a").stdout == drawn.replace("PIPELINE_ID", "a")
    assert command("describe", "a", "--format", "mermaid").stdout.startswith("flowchart TD\n")
    assert "no-such" in command("describe", "no-such", code=2).stderr


def test_status_and_errors_say_which_row_failed(shell: Shell, command: Command) -> None:
    result = command("run", shell.yaml(["ops:no_seven"]), "--id", "a", code=1)
    row = 'row 7 (in.jsonl, line 8): {"n": 7}'
    assert f"seven is [not] wanted; at {row}\n" in result.stderr
    assert f"failed at {row}" in command("status", "a").stdout.splitlines()
    assert f"  at {row}" in command("errors", "a").stdout.splitlines()
    assert json.loads(command("status", "a", "--json").stdout)["failed_row"] == row


def test_a_run_that_an_operator_stops_has_a_status_and_an_exit_code_of_its_own(shell: Shell, command: Command) -> None:
    (shell.folder / "stops.py").write_text(
        "from pathlib import Path\nfrom llm_datagen import StopRun\n\n\ndef stop(item):\n"
        "    if item['n'] == 20 and not Path('mended').exists():\n"
        "        raise StopRun('20 are enough')\n    return item\n"
    )
    result = command("run", shell.yaml(["stops:stop"]), "--id", "a", code=3)
    assert "run a: stopped after" in result.stdout
    assert "reason  20 are enough" in result.stdout
    assert "canceled" not in result.stdout
    assert "run a: stopped (20 are enough)" in command("status", "a").stdout
    told = json.loads(command("status", "a", "--json").stdout)
    assert (told["status"], told["nodes"][0]["status"]) == ("stopped", "stopped")
    shell.mend()
    command("resume", "a")
    assert len(shell.rows()) == 50
