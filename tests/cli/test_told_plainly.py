"""What a newcomer must not miss: runs of which nothing came, and advice that can be typed, once."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext, InputWarning, Status

from ..kit.support import Bench
from .conftest import Command
from .shell import Shell

OPERATORS = """
def fails(item):
    raise ValueError("never")


def forgets(item):
    item["seen"] = True


def both(item):
    if item["n"] % 2:
        raise ValueError("odd")
"""


@pytest.mark.parametrize(
    ("operator", "told"),
    [
        ("fails", "node_0: no row came out: all 50 failed"),
        ("forgets", "node_0: no row came out: all 50 were filtered; does the operator return its row?"),
        ("both", "node_0: no row came out: 25 of 50 failed, and 25 were filtered"),
    ],
)
def test_a_run_of_which_no_row_came_says_so(shell: Shell, command: Command, operator: str, told: str) -> None:
    shell.text(OPERATORS, "nothing.py")
    said = command("run", shell.yaml([f"nothing:{operator}"], on_error="dead_letter"), "--id", "a").output
    assert f"  warning {told}\n" in said
    assert f"node_0 {operator}: warning: {told.removeprefix('node_0: ')}" in said
    lines = [json.loads(line) for line in (shell.folder / "logs/platform.log").read_text().splitlines()]
    (line,) = (line for line in lines if line["event"] == "[No Rows]")
    assert (line["level"], f"{line['node_id']}: {line['message']}") == ("warning", told)
    again = command("replay", "a").output
    assert ("warning none was mended: " in again) == (operator != "forgets")


def test_what_is_well_or_is_not_over_is_not_warned_of(shell: Shell, command: Command, bench: Bench) -> None:
    assert "warning" not in command("run", shell.yaml(["ops:odd"]), "--id", "a").output
    bench.give([])
    report = bench.pipeline([lambda row: None], output_uri="jsonl://none.jsonl").create("b").run()
    assert (report.status, report.warnings) == (Status.COMPLETED, [])


def test_a_program_finds_the_same_in_its_report(bench: Bench) -> None:
    bench.give([{"n": 1}])
    report = bench.pipeline([lambda row: None]).create("a").run()
    assert report.warnings == ["node_0: no row came out: all 1 were filtered; does the operator return its row?"]
    assert "does the operator return its row?" in report._repr_html_()


def test_a_wrong_template_is_told_in_one_line_and_without_how_a_library_found_it(
    shell: Shell, command: Command
) -> None:
    entry: dict[str, Any] = {"use": "llm_datagen.llm:LLMOperator", "with": {"prompt": "{{ n ", "model": "m"}}
    said = command("run", shell.yaml([entry]), code=2).output
    assert "prompt is not a Jinja2 template: line 1: " in said
    assert "Traceback" not in said
    assert "jinja2" not in said


@pytest.mark.slow
def test_the_command_line_advises_options_and_once(shell: Shell, command: Command) -> None:
    file = shell.yaml(["ops:odd"])
    command("run", file, "--id", "a")
    there = command("run", file, "--id", "a", code=2).output
    assert "continue it with llm-datagen resume a, start afresh with --if-exists overwrite" in " ".join(there.split())
    taken = command("run", file, "--id", "b", code=2).output
    assert "type llm-datagen resume a, or add --id a --if-exists overwrite" in " ".join(taken.split())
    failed = command("run", shell.yaml(["ops:no_seven"], output_uri="o.jsonl"), "--id", "c", code=1).output
    assert "or without rows that fail: llm-datagen resume c --on-error dead_letter" in failed
    for said in (there, taken, failed):
        assert "if_exists=" not in said
        assert "resume(" not in said


def test_rows_are_not_to_be_left_out_where_none_was_done(shell: Shell, command: Command) -> None:
    shell.text(OPERATORS, "nothing.py")
    said = command("run", shell.yaml(["nothing:fails"]), "--id", "a", code=1).output
    assert "go on   llm-datagen resume a\n" in said
    assert "--on-error" not in said
    assert "--on-error" not in command("errors", "a").output


@pytest.mark.parametrize(("sign", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_csv_with_another_separator_is_warned_of(bench: Bench, sign: str, word: str) -> None:
    source = bench.folder / "in.csv"
    source.write_text(f"a{sign}b\n1,5{sign}2\n")
    says = f"in.csv has one column, .*separated by {word}, and CSV is read with ','; set data_config separator="
    with pytest.warns(InputWarning, match=says):
        bench.pipeline([lambda row: row], input_uri=f"csv://{source}").create("a")


@pytest.mark.parametrize("header", ["a,b;c", "a", ""])
def test_csv_with_commas_or_one_column_is_not(bench: Bench, header: str) -> None:
    source = bench.folder / "in.csv"
    source.write_text(f"{header}\n")
    bench.pipeline([lambda row: row], input_uri=f"csv://{source}").create("a")  # warnings are errors here


def test_the_command_line_shows_the_warning_once(shell: Shell, command: Command) -> None:
    (shell.folder / "in.csv").write_text("a;b\n1;2\n")
    said = command("run", shell.yaml(["ops:twice"], input_uri="csv://in.csv"), code=1).output
    assert said.count("separated by semicolons") == 1
    assert "InputWarning" not in said


@pytest.mark.slow
def test_an_input_that_was_edited_since_a_run_was_completed_is_warned_of(shell: Shell, command: Command) -> None:
    command("run", shell.yaml(["ops:odd"]), "--id", "a")
    assert "was edited" not in command("resume", "a").output
    source = shell.folder / "in.jsonl"
    source.write_text(source.read_text().replace("7", "8"))
    said = " ".join(command("resume", "a").output.split())
    assert "warning: in.jsonl was edited or shortened since its rows were done; rows that are done stay as" in said
    source.unlink()
    assert "was edited" not in command("resume", "a").output


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("7", "; ids of this run begin like 'r0': llm-datagen trace a r7\n"),
        ("7_1", "; ids of this run begin like 'r0': llm-datagen trace a r7_1\n"),
        ("70", "; ids of this run begin like 'r0'\n"),
    ],
)
def test_a_number_is_no_id_of_a_run_with_ids_as_text(shell: Shell, command: Command, given: str, hint: str) -> None:
    command("run", shell.yaml(["ops:twice"], id_scheme="text"), "--id", "a")
    assert command("trace", "a", given, code=1).stdout.endswith(hint)


def test_without_a_terminal_reasons_and_rows_are_whole(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    shell.text("def fails(row):\n    raise ValueError('why ' * 60 + 'and what to do')\n", "long.py")
    command("run", shell.yaml(["long:fails"], on_error="dead_letter"), "--id", "a")
    assert "why and what to do\n" in command("trace", "a", "3").stdout
    monkeypatch.setenv("COLUMNS", "60")
    assert "why and what to do\n" in command("trace", "a", "3").stdout, "a reason is whole in a narrow terminal, too"


def test_ctrl_c_in_a_program_says_that_all_is_saved(bench: Bench) -> None:
    class Interrupts(BaseOperator):
        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            while not ctx.is_cancelled():
                time.sleep(0.001)
            return item

    bench.give([{"n": 1}])
    with pytest.raises(KeyboardInterrupt, match=r"everything finished is saved: resume\('a'\) goes on"):
        bench.pipeline([Interrupts()]).create("a").run()


def test_a_plan_is_not_cut_where_there_is_no_terminal(
    shell: Shell, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a_step_with_a_name_that_a_narrow_table_would_cut"[:28]
    told = command("plan", shell.yaml([{"use": "ops:odd", "name": name}])).stdout
    (line,) = (line for line in told.splitlines() if line.startswith("node_0"))
    assert "…" not in told
    assert len(line) < 200, "and it is not filled up with blanks"
